//! dhowctl for a user who has no root but subordinate ids: images are run, unpacked and built as root would do it.

#[path = "support/layers.rs"]
mod layers;
#[path = "support/subids.rs"]
#[macro_use]
mod subids;
mod support;

use layers::{Header, Tar, header};
use serde_json::json;
use std::ffi::CString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use subids::Caller;
use support::{Outcome, eventually};

#[test]
fn run_keeps_owners() {
    let caller = caller!();
    caller.usual_image();
    let script = r#"dhowctl run -q $IMAGE sh -c 'id; stat -c "%a %u:%g %n" / /tmp /srv /srv/page; cat /srv/page; ls /gone /opaque
        touch /new; chown 65535:6 /new; stat -c %u:%g /new; echo x >/etc/motd; rm /srv/page; ls /srv; exit 7'"#;
    let said = "uid=0(root) gid=0(root) groups=0(root)\n755 0:0 /\n1777 0:0 /tmp\n755 33:34 /srv\n640 33:34 /srv/page\nhello\n\
        /gone:\n\n/opaque:\nabove\n65535:6\n";
    for _ in 0..2 {
        // What one has written the next doesn't see.
        let out = caller.sh(script);
        assert_eq!((out.code, out.out.as_str()), (7, said), "{}", out.err);
        assert_eq!(out.err, "");
        caller.assert_nothing_left();
    }
    let layers: Vec<_> = caller.stored("layers").into_iter().filter(|name| !name.starts_with('.')).collect();
    assert_eq!(layers.len(), 2);
    let page = |layer: &String| caller.home(".local/share/dhow/images/layers").join(layer).join("fs/srv");
    if caller.are_root() {
        let owner = layers.iter().find_map(|layer| fs::metadata(page(layer)).ok()).unwrap();
        assert_eq!((owner.uid(), owner.gid()), (caller.first + 32, caller.first + 33));
    }
}

#[test]
fn run_as_another_user_and_on_the_host_s_network() {
    let caller = caller!();
    caller.usual_image();
    let config = json!({"Cmd": ["sh", "-c", "id; pwd; cat /srv/page; touch /srv/new && stat -c %u:%g /srv/new"], "Env": ["PATH=/bin"], "User": "web", "WorkingDir": "/srv"});
    with_config(&caller, config);
    let said = "uid=33(web) gid=34(www) groups=34(www),50(extra)\n/srv\nhello\n33:34\n";
    assert_eq!(caller.sh("dhowctl run -q $IMAGE").succeeds().out, said);
    assert_eq!(caller.sh("dhowctl run -q --host-network $IMAGE sh -c 'test -s /etc/hosts && ls /sys/class/net >/dev/null && id -u'").ok(), "33");
    assert_eq!(caller.sh("dhowctl run -q --copy $IMAGE").succeeds().out, said);
    // A directory of the caller's, to be written to and to be read, on whatever kind of mount it is.
    let script = "mkdir shared && echo in >shared/file && dhowctl run -q -u 0 -v ./shared:/x $IMAGE sh -c 'cat /x/file; echo out >/x/new' && cat shared/new; \
        dhowctl run -q -u 0 -v ./shared:/x:ro -v /usr:/y:ro $IMAGE sh -c 'ls /x; [ -e /y/bin ] && echo no >/x/new' || echo $?";
    assert_eq!(caller.sh(script).out, "in\nout\nfile\nnew\n1\n");
    caller.assert_nothing_left();
}

/// The usual image with another config.
fn with_config(caller: &Caller, config: serde_json::Value) {
    let dir = caller.path("image");
    let index: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let blob = |digest: &serde_json::Value| dir.join("blobs/sha256").join(digest.as_str().unwrap().trim_start_matches("sha256:"));
    let mut manifest: serde_json::Value = serde_json::from_slice(&fs::read(blob(&index["manifests"][0]["digest"])).unwrap()).unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&fs::read(blob(&manifest["config"]["digest"])).unwrap()).unwrap();
    document["config"] = config;
    let put = |value: &serde_json::Value| {
        let text = serde_json::to_vec(value).unwrap();
        let digest = dhow::image::Digest::of(&text);
        fs::write(dir.join("blobs/sha256").join(digest.hex()), &text).unwrap();
        (json!(digest), json!(text.len()))
    };
    (manifest["config"]["digest"], manifest["config"]["size"]) = put(&document);
    let mut index = index;
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = put(&manifest);
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

#[test]
fn unshare_is_the_command() {
    let caller = caller!();
    let out =
        caller.sh("dhowctl unshare id -u; touch f; dhowctl unshare chown 5:6 f; stat -c %u f; dhowctl unshare stat -c %u:%g f; dhowctl unshare sh -c 'exit 3'");
    assert_eq!((out.code, out.out), (3, format!("0\n{}\n5:6\n", caller.first + 4)), "{}", out.err);
    caller.sh("dhowctl unshare nowhere").fails(127, &["running nowhere: no such file"]);
}

#[test]
fn without_a_runtime_directory_or_newuidmap() {
    let caller = caller!();
    caller.usual_image();
    assert_eq!(caller.sh("unset XDG_RUNTIME_DIR; dhowctl run -q $IMAGE stat -c %u:%g /srv").ok(), "33:34");
    let out = caller.sh("PATH=$DIR/bin; export PATH; dhowctl run -q $IMAGE stat -c %u:%g /srv");
    assert_eq!(out.ok(), "0:0");
    for word in ["going on without subordinate ids: running newuidmap", "package uidmap", "files of other users became the caller's"] {
        assert!(out.err.contains(word), "{word}: {}", out.err);
    }
}

/// Docker's capabilities, and nothing that reaches the host.
#[test]
fn the_container_has_no_more_rights_than_others() {
    let caller = caller!();
    caller.usual_image();
    let script = r#"dhowctl run -q $IMAGE sh -c 'cat /proc/self/status; cat /proc/self/uid_map; mount -t tmpfs tmpfs /tmp || echo no mount
        mount -o remount,rw /sys 2>/dev/null || echo no remount; echo 1 >/proc/sys/kernel/sysrq || echo no sysctl; ls /proc | cat'"#;
    let out = caller.sh(script).succeeds();
    let line = |name: &str| out.out.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default().trim().to_string();
    for set in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(line(set), "00000000a80425fb", "{set}");
    }
    assert_eq!((line("CapInh:").as_str(), line("Seccomp:").as_str(), line("NoNewPrivs:").as_str()), ("0000000000000000", "2", "0"));
    assert!(out.out.contains("no mount\nno remount\nno sysctl\n"), "{}", out.out);
    let pids = out.out.lines().filter(|l| l.bytes().all(|b| b.is_ascii_digit()) && !l.is_empty()).count();
    assert!(pids <= 3, "processes of the host are seen: {}", out.out);
}

#[test]
fn unpack_a_copy_that_the_caller_s_runtime_runs() {
    let caller = caller!();
    caller.usual_image();
    let script = r#"dhowctl unpack -q $IMAGE bundle
        dhowctl unshare stat -c '%u:%g %n' bundle/rootfs/srv/page
        sed -i 's/"sh"$/"stat", "-c", "%u:%g", "\/srv\/page"/' bundle/config.json
        dhow run --bundle bundle one; dhowctl run bundle; dhowctl run -T bundle sh -c 'touch /kept; chown 5 /kept'; stat -c %u bundle/rootfs/kept
        dhowctl unshare rm -rf bundle; ls
        dhowctl unpack -q --rootless $IMAGE mine; stat -c %u mine/rootfs/srv/page; rm -rf mine"#;
    let (own, fifth) = (caller.uid, caller.first + 4);
    let out = caller.sh(script).succeeds();
    assert_eq!((out.out, out.err.as_str()), (format!("33:34 bundle/rootfs/srv/page\n33:34\n33:34\n{fifth}\n{own}\n"), ""));
}

#[test]
fn unpack_with_a_map_of_one_s_own() {
    let caller = caller!();
    caller.usual_image();
    let (first, own) = (caller.first, caller.uid);
    let script = format!(
        r#"dhowctl unpack -q --uid-map 0:{first}:1000 $IMAGE bundle; stat -c %u:%g bundle/rootfs/srv bundle/rootfs/bin
        chmod 711 . .. 2>/dev/null; sed -i 's/"sh"$/"stat", "-c", "%u:%g", "\/srv"/' bundle/config.json; dhow run --bundle bundle one
        dhowctl unpack -q --uid-map 0:{own}:1 --uid-map 1:{first}:50 $IMAGE second; dhow run --bundle second two </dev/null && echo ran
        dhowctl run -q --uid-map 0:{first}:1000 $IMAGE sh -c 'cat /proc/self/uid_map; stat -c %u:%g /srv' | tr -s ' '
        dhowctl unpack -q --overlay --uid-map 0:{first}:1000 $IMAGE shared; dhowctl run -T shared sh -c 'stat -c %u:%g /srv; touch /new; stat -c %u /new'
        stat -c %u shared/upper/new
        dhowctl unpack -q --uid-map 0:1:10 $IMAGE third"#
    );
    let out = caller.sh(&script);
    let said = format!("{}:{}\n{first}:{first}\n33:34\nran\n 0 1 1000\n33:34\n33:34\n0\n{first}\n", first + 33, first + 34);
    assert_eq!(out.out, said, "{}", out.err);
    out.fails(1, &["uids 1 to 10: they are not all the caller's to give", "usermod --add-subuids"]);
}

#[test]
fn unpack_shared_layers_twice() {
    let caller = caller!();
    caller.usual_image();
    caller.sh("dhowctl unpack -q --overlay $IMAGE one").ok();
    let store = caller.home(".local/share/dhow/images/layers");
    let inodes = || -> Vec<u64> { caller.stored("layers").iter().map(|name| fs::metadata(store.join(name)).unwrap().ino()).collect() };
    let before = inodes();
    // So nothing is unpacked again.
    caller.sh("dhowctl unpack -q --overlay $IMAGE two").ok();
    assert_eq!(inodes(), before);
    // The runtime alone mounts it too.
    let script = r#"dhowctl run one sh -c 'touch /kept; rm /srv/page; stat -c %u:%g /srv'; dhowctl run one ls /kept /srv; dhowctl run two ls /srv
        sed -i 's/"sh"$/"stat", "-c", "%u:%g %n", "\/srv\/page"/' two/config.json; dhow run --bundle two direct; dhowctl run two
        dhowctl prune >/dev/null; dhowctl run two sh -c 'ls /opaque'
        dhowctl unshare rm -rf one two; dhowctl prune"#;
    let out = caller.sh(script).succeeds();
    assert_eq!(
        out.out,
        "33:34\n/kept\n\n/srv:\npage\n33:34 /srv/page\n33:34 /srv/page\nabove\nremoved 0 blobs, 0 B\nremoved 2 unpacked layers, 1.1 MB\n"
            .replace("1.1 MB", &size_in(&out))
    );
    assert_eq!(caller.stored("layers"), [".bundles"]);
}

/// More than fsconfig(2) takes of an option.
#[test]
fn the_runtime_mounts_many_layers() {
    let caller = caller!();
    caller.usual_image();
    let mut layers = vec![subids::base()];
    layers.extend((0..20).map(|n| Tar::new().dir("many").file(&format!("many/{n}"), "")));
    caller.image(
        layers,
        json!({"Cmd": ["sh", "-c", "ls /many | wc -l; touch /many/new; stat -c %u:%g /srv/page; mount | head -n 1 | cut -c1-30"], "Env": ["PATH=/bin"]}),
    );
    let script = "dhowctl unpack -q --overlay $IMAGE bundle; dhow run --bundle bundle one; dhow run --bundle bundle two; dhowctl run bundle | head -n 1";
    let each = |files: u32| format!("{files}\n33:34\noverlay on / type overlay (rw,\n");
    assert_eq!(caller.sh(script).succeeds().out, format!("{}{}21\n", each(20), each(21)));
}

/// What `prune` says of the size, which is busybox's.
fn size_in(out: &Outcome) -> String {
    out.out.trim_end().rsplit(", ").next().unwrap_or_default().to_string()
}

const DOCKERFILE: &str = r#"FROM base AS one
WORKDIR /app
COPY data /app/data
COPY --chown=web:www data /app/web
RUN id && echo made >/app/made && chown 33:50 /app/made && rm /srv/page /gone -r && touch -d '2020-01-01 00:00:00' /app/made /app
USER web
WORKDIR /srv/home
RUN id -u >/tmp/user && test "$(stat -c %u /tmp/user)" = 33
FROM base
COPY --from=one /app /copied
RUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/mem rm -r /opaque && mkdir /opaque && touch /opaque/new /cache/x
ADD data.tar /added/
USER web
CMD ["sh", "-c", "id; stat -c '%u:%g %n' /copied/* /opaque/* /added/* /srv/page"]
"#;

const BUILT: &str = "uid=33(web) gid=34(www) groups=34(www),50(extra)\n0:0 /copied/data\n33:50 /copied/made\n33:34 /copied/web\n\
    0:0 /opaque/new\n7:8 /added/of7\n33:34 /srv/page\n";

fn context(caller: &Caller) {
    fs::create_dir(caller.path("ctx")).unwrap();
    fs::write(caller.path("ctx/data"), "data\n").unwrap();
    fs::write(caller.path("ctx/data.tar"), Tar::new().raw(&Header { uid: 7, gid: 8, ..header(b'0', b"of7") }, b"7").end()).unwrap();
    fs::write(caller.path("ctx/Dockerfile"), DOCKERFILE).unwrap();
}

const BUILD: &str = "SOURCE_DATE_EPOCH=1600000000 dhowctl build --progress plain --build-context base=oci-layout://$DIR/image:latest -t app";

#[test]
fn build() {
    let caller = caller!();
    caller.usual_image();
    context(&caller);
    let first = caller.sh(&format!("{BUILD} -o bundle:bundle $DIR/ctx")).succeeds();
    let script = format!(
        r#"{BUILD} $DIR/ctx 2>&1 | grep -c CACHED; dhowctl run app; dhow run --bundle bundle one 2>warned; cat warned >&2
        dhowctl unshare stat -c %u:%g bundle/rootfs/copied/made"#
    );
    let out = caller.sh(&script).succeeds();
    // Groups beside a user's own can't be had without root (dhow says so).
    let alone = BUILT.replace(",50(extra)", "").replace(" groups=34(www)", "");
    assert_eq!(out.out, format!("9\n{BUILT}{alone}33:50\n"), "{}", out.err);
    assert!(out.err.contains("additionalGids has no effect"), "{}", out.err);
    caller.assert_nothing_left();
    if caller.are_root() {
        // Root's own build of it comes to the same digest.
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &format!("{BUILD} $DIR/ctx")]).env("DIR", &caller.dir).env("DHOW_STORE", caller.path("roots")).env("HOME", &caller.dir);
        command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", caller.path("bin").display()));
        assert_eq!(caller.finish(command).ok(), first.out.trim_end());
    }
}

#[test]
fn a_build_is_as_buildah_s() {
    let caller = caller!();
    if std::process::Command::new("buildah").arg("--version").output().is_err() {
        skip!("buildah is not installed");
    }
    caller.usual_image();
    context(&caller);
    let dockerfile = fs::read_to_string(caller.path("ctx/Dockerfile")).unwrap();
    // Buildah of Debian 12 takes a base by its name in its own store, and mounts no cache without an overlay.
    let dockerfile =
        dockerfile.replace("FROM base", "FROM localhost/base").replace("--mount=type=cache,target=/cache --mount=type=tmpfs,target=/mem ", "mkdir /cache && ");
    fs::write(caller.path("ctx/Dockerfile"), dockerfile).unwrap();
    let script = r#"set -e
        b() { buildah --storage-driver vfs --root "$HOME/b" --runroot "$HOME/br" "$@"; }
        b pull "$IMAGE:latest" >id 2>err || { cat err >&2; exit 1; }
        b tag "$(tail -n 1 id)" localhost/base
        b build --isolation chroot --pull-never -t theirs "$DIR/ctx" >out 2>&1 || { cat out >&2; exit 1; }
        b push -q theirs "oci:$HOME/theirs:latest"
        dhowctl build --progress quiet --build-context localhost/base=oci-layout://$DIR/image:latest -o bundle:ours "$DIR/ctx" >/dev/null
        dhowctl unpack -q oci:theirs:latest theirs.bundle
        list='find . -mindepth 1 \( -path ./dev -o -path ./proc -o -path ./sys -o -path ./run \) -prune -o -printf "%y %m %U:%G %s %l %p\n"'
        for side in ours theirs.bundle; do (cd $side/rootfs; dhowctl unshare sh -c "$list" | sort >"$HOME/$side.txt"); done
        grep -vE ' \./etc/(hosts|hostname|resolv.conf)$' theirs.bundle.txt | diff ours.txt - && wc -l <ours.txt
        dhowctl unshare rm -rf b br ours theirs.bundle"#;
    let out = caller.sh(script).succeeds();
    assert!(out.out.trim().parse::<u32>().is_ok_and(|lines| lines > 25), "{}", out.out);
}

#[test]
fn signals_end_a_run_and_a_build() {
    let caller = caller!();
    caller.usual_image();
    caller.sh("dhowctl run -q $IMAGE true").ok();
    for (signal, code) in [(libc::SIGINT, 130), (libc::SIGTERM, 5)] {
        let begun = caller
            .spawn(caller.command("exec dhowctl run -q $IMAGE sh -c \"trap 'exit 130' INT; trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done\""));
        eventually("the program", || begun.printed().contains("ready").then_some(()));
        begun.signal(signal);
        begun.finish().code(code);
        caller.assert_nothing_left();
    }
    fs::create_dir(caller.path("ctx")).unwrap();
    fs::write(caller.path("ctx/Dockerfile"), "FROM base\nRUN touch /x\nRUN echo ready; sleep 1000\n").unwrap();
    let begun = caller.spawn(caller.command(&format!("exec 2>&1; {} $DIR/ctx", BUILD.replace("SOURCE", "exec env SOURCE"))));
    eventually("the step", || begun.printed().contains("ready\n").then_some(()));
    begun.signal(libc::SIGINT);
    begun.finish().code(130);
    caller.assert_nothing_left();
}

/// Of a user that the next dhowctl, in a namespace of its own, could not signal.
#[test]
fn what_a_killed_run_leaves_the_next_one_removes() {
    let caller = caller!();
    caller.usual_image();
    with_config(&caller, json!({"Cmd": ["sh", "-c", "touch /srv/x; echo ready; sleep 987"], "Env": ["PATH=/bin"], "User": "web"}));
    let mut begun = caller.spawn(caller.command("exec dhowctl run -q $IMAGE"));
    eventually("the program", || begun.printed().contains("ready").then_some(()));
    begun.signal(libc::SIGKILL);
    begun.child.wait().unwrap();
    assert_eq!(caller.stored("run").len(), 1);
    let sleeps = || support::processes_of("sleep\u{0}987").len();
    assert_eq!(sleeps(), 1);
    assert_eq!(caller.sh("dhowctl run -q $IMAGE id -u").ok(), "33");
    caller.assert_nothing_left();
    eventually("the container's end", || (sleeps() == 0).then_some(()));
}

#[test]
fn prune_removes_what_is_others() {
    let caller = caller!();
    caller.usual_image();
    context(&caller);
    caller.sh(&format!("{BUILD} $DIR/ctx")).ok();
    caller.sh("dhowctl rmi app && dhowctl prune").ok();
    assert_eq!(caller.stored("layers"), [".bundles"]);
    assert_eq!(caller.stored("build/mounts"), Vec::<String>::new());
    // All that is left is the caller's.
    caller.sh("rm -r .local && ls").ok();
}

/// As image_unpack_evil.rs has them, in the user namespace: by shared layers, and as a copy.
#[test]
fn evil_layers() {
    let caller = caller!();
    fs::create_dir_all(caller.home("outside")).unwrap();
    fs::write(caller.home("outside/marker"), "untouched").unwrap();
    let outside = caller.home("outside").display().to_string();
    let refused: [(&str, Vec<Tar>); 6] = [
        ("\"..\"", vec![Tar::new().dir("a").file("a/../../outside/pwned", "x")]),
        ("whiteout of no name", vec![Tar::new().file("a/.wh...", "")]),
        ("leads to none within the image", vec![Tar::new().symlink("a", &outside).file("a/pwned", "x")]),
        ("linking", vec![Tar::new().hard_link("a", &format!("{outside}/marker"))]),
        ("the root can only be a directory", vec![Tar::new().symlink(".", &outside)]),
        ("linking", vec![Tar::new().dir("etc"), Tar::new().dir("etc").hard_link("etc/a", "../../../../outside/marker")]),
    ];
    for (words, layers) in refused {
        let _ = fs::remove_dir_all(caller.path("image"));
        caller.image(layers, json!({"Cmd": ["x"]}));
        for flag in ["", "--overlay"] {
            let out = caller.sh(&format!("dhowctl unpack -q {flag} $IMAGE bundle"));
            assert!(out.code == 1 && (out.err.contains(words) || words == "linking" && out.err.contains("\"..\"")), "{words}: {out:?}");
            assert!(!caller.home("bundle").exists() && !caller.home(".bundle.dhowctl").exists());
        }
        assert_eq!(fs::read_dir(caller.home("outside")).unwrap().count(), 1);
        caller.assert_nothing_left();
    }
}

/// overlayfs would follow these, or hide by them, in a mount with `userxattr`; and fuse-overlayfs knows others.
#[test]
fn overlay_marks_of_a_layer_are_never_taken() {
    let caller = caller!();
    let marked = |tar: Tar, path: &str, name: &str, value: &[u8]| {
        let key = format!("SCHILY.xattr.{name}");
        tar.pax(&[(&key, value)]).dir(path)
    };
    let base = Tar::new().dir("secret").file("secret/key", "secret").dir("a").file("a/shown", "shown").dir("b").file("b/shown", "shown");
    let mut top = marked(Tar::new(), "a", "user.overlay.opaque", b"y");
    top = marked(top, "b", "user.overlay.redirect", b"/secret");
    top = marked(top, "c", "user.fuseoverlayfs.opaque", b"y");
    top = marked(top, "d", "trusted.overlay.opaque", b"y");
    top = marked(top, "e", "user.kept", b"yes");
    caller.image(vec![base, top], json!({"Cmd": ["x"]}));
    caller.sh("dhowctl unpack -q --overlay $IMAGE bundle").ok();
    let mut found = Vec::new();
    attributes_below(&caller.home(".local/share/dhow/images/layers"), &mut found);
    assert_eq!(found, ["e user.kept"]);
    // What is mounted shows it all.
    let script = r#"dhowctl unshare sh -c 'cd bundle; l=$(grep -o "\"layers\":\[[^]]*" overlay.json | grep -oE "[0-9a-f]{24}" | sed "s,.*,$HOME/.local/share/dhow/images/layers/&/fs," | paste -sd:)
        mount -t overlay -o "lowerdir=$l,upperdir=upper,workdir=work,userxattr" overlay rootfs; ls rootfs/a rootfs/b rootfs/c'"#;
    assert_eq!(caller.sh(script).ok(), "rootfs/a:\nshown\n\nrootfs/b:\nshown\n\nrootfs/c:");
}

/// Of all files: name, attribute.
fn attributes_below(dir: &Path, out: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let (path, mut names) = (CString::new(entry.path().into_os_string().into_encoded_bytes()).unwrap(), [0u8; 4096]);
        // SAFETY: `path` is a C string, `names` writable for its length.
        let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
        let listed = String::from_utf8_lossy(&names[..usize::try_from(length).unwrap()]).into_owned();
        out.extend(listed.split_terminator('\0').map(|key| format!("{} {key}", entry.file_name().display())));
        if entry.file_type().unwrap().is_dir() {
            attributes_below(&entry.path(), out);
        }
    }
}

/// A store on an overlay: no marks can be made there.
#[test]
fn where_no_overlay_can_be_mounted_it_is_a_copy() {
    let caller = caller!();
    if !caller.are_root() {
        skip!("needs root, to mount something over the home");
    }
    caller.usual_image();
    context(&caller);
    let more = r#"mkdir -p $DIR/over; mount -t tmpfs tmpfs $DIR/over; mkdir $DIR/over/u $DIR/over/w; chown --reference $HOME $DIR/over/u
        mount -t overlay overlay -o lowerdir=$HOME,upperdir=$DIR/over/u,workdir=$DIR/over/w $HOME"#;
    let run = |script: &str| caller.finish(caller.command_with(more, &caller.becoming(), script));
    let out = run("dhowctl run -q $IMAGE sh -c 'stat -c %u:%g /srv; touch /new; exit 4'");
    assert_eq!((out.code, out.out.as_str()), (4, "33:34\n"), "{}", out.err);
    assert!(out.err.contains("warning: unpacking a copy: making whiteouts in"), "{}", out.err);
    let words = ["making whiteouts in", "--store DIR"];
    run("dhowctl unpack -q --overlay $IMAGE bundle").fails(1, &words);
    run(&format!("{BUILD} $DIR/ctx")).fails(1, &words);
}

/// As on Linux 5.10: the mount is refused, everything else is there.
#[test]
fn where_the_kernel_refuses_fuse_overlayfs_does_it() {
    let caller = caller!();
    if !caller.are_root() || !Path::new("/usr/bin/fuse-overlayfs").exists() {
        skip!("needs root and fuse-overlayfs");
    }
    caller.usual_image();
    // The first mount of each process cuts off the host's mounts; dhowctl's second is the overlay.
    let strace = "strace -u sailor -f -qq -o /dev/null -e trace=mount -e inject=mount:error=EPERM:when=2+";
    let script = "dhowctl run -q $IMAGE sh -c 'stat -c %u:%g /srv /srv/page; rm /srv/page; touch /srv/new; ls /gone /opaque /srv; exit 4'";
    let run = |more: &str| caller.finish(caller.command_with(more, strace, script));
    let said = "33:34\n33:34\n/gone:\n\n/opaque:\nabove\n\n/srv:\nnew\n";
    let device = "mknod -m 666 $DIR/fuse c 10 229 && mount --bind $DIR/fuse /dev/fuse";
    let out = run(device);
    assert_eq!((out.code, out.out.as_str()), (4, said), "{}", out.err);
    assert!(out.err.contains("using fuse-overlayfs, which is slower: mounting the layers at"), "{}", out.err);
    caller.assert_nothing_left();
    let home = caller.dir.display().to_string();
    eventually("the daemon's end", || support::processes_of(&home).is_empty().then_some(()));
    let out = run("mount --bind /dev/null /usr/bin/fuse-overlayfs");
    assert_eq!((out.code, out.out.as_str()), (4, said), "{}", out.err);
    caller.assert_nothing_left();
}
