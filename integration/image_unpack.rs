//! Unpacking: every kind of entry as umoci has it, both ways of unpacking alike, and nothing half made when it is broken off.

#[path = "support/layers.rs"]
mod layers;

use layers::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

macro_rules! skip {
    ($($reason:tt)*) => {{
        eprintln!("skipped: {}: {}", std::thread::current().name().unwrap_or("?"), format_args!($($reason)*));
        return;
    }};
}

macro_rules! needs_root {
    () => {
        // SAFETY: geteuid(2) can't fail.
        if unsafe { libc::geteuid() } != 0 {
            skip!("needs root");
        }
    };
}

/// All that an entry of a file system is, as text. Hard links are named by the first of their names; one without another
/// is none: in an overlay a file still counts the names that it has in a layer below.
fn describe(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, path: &Path, links: &mut BTreeMap<u64, Vec<String>>, out: &mut BTreeMap<String, String>) {
        let meta = fs::symlink_metadata(path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = meta.file_type();
        let mut text = format!("{:o} {}:{} {}.{:09}", meta.mode(), meta.uid(), meta.gid(), meta.mtime(), meta.mtime_nsec());
        if kind.is_file() {
            let content = fs::read(path).unwrap();
            text += &format!(" {} {}", content.len(), dhow::image::Digest::of(&content).short());
        } else if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(path).unwrap().display());
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!(" dev {:x}", meta.rdev());
        }
        if meta.nlink() > 1 && !kind.is_dir() {
            links.entry(meta.ino()).or_default().push(name.clone());
        }
        for (key, value) in xattrs(path) {
            text += &format!(" {key}={value:02x?}");
        }
        out.insert(name, text);
        if kind.is_dir() {
            let mut children: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
            children.sort();
            children.iter().for_each(|child| walk(root, child, links, out));
        }
    }
    let (mut out, mut links) = (BTreeMap::new(), BTreeMap::new());
    walk(root, root, &mut links, &mut out);
    for names in links.values().filter(|names| names.len() > 1) {
        names.iter().for_each(|name| *out.get_mut(name).unwrap() += &format!(" = {}", names[0]));
    }
    out
}

/// But for overlayfs's own.
fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0u8; 1 << 16];
    // SAFETY: the buffer is writable for its length.
    let n = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let mut out = BTreeMap::new();
    for name in names[..n.max(0) as usize].split(|b| *b == 0).filter(|n| !n.is_empty() && !n.starts_with(b"trusted.overlay.")) {
        let key = CString::new(name).unwrap();
        let mut value = vec![0u8; 1 << 16];
        // SAFETY: the buffer is writable for its length.
        let n = unsafe { libc::lgetxattr(path.as_ptr(), key.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(n.max(0) as usize);
        out.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    out
}

#[track_caller]
fn assert_same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>) {
    let differ: Vec<String> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|name| ours.get(*name) != theirs.get(*name))
        .map(|name| format!("{name:?}: {:?} against {:?}", ours.get(name), theirs.get(name)))
        .collect();
    assert!(differ.is_empty(), "{} differ:\n{}", differ.len(), differ.join("\n"));
}

/// CAP_NET_BIND_SERVICE+ep, version 2.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// user::rwx, user:1000:r--, group::r-x, mask::r-x, other::---
const ACL: &[u8] =
    b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x05\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

/// An image with every kind of entry, in three layers.
fn everything() -> Vec<Tar> {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(130));
    let owned = |kind, path, mode, uid, gid| Header { mode, uid, gid, mtime: 1_234_567_890, ..header(kind, path) };
    let first = Tar::new()
        .raw(&owned(b'5', b"./", 0o755, 0, 0), b"")
        .raw(&owned(b'5', b"./bin/", 0o755, 0, 0), b"")
        .raw(&owned(b'0', b"./bin/suid", 0o4755, 0, 0), b"suid")
        .raw(&owned(b'0', b"./bin/sgid", 0o2755, 0, 50), b"sgid")
        .raw(&owned(b'0', b"./bin/theirs", 0o4711, 1000, 1001), b"theirs")
        .raw(&owned(b'5', b"./shared/", 0o2775, 10, 20), b"")
        .raw(&owned(b'0', b"./shared/file", 0o664, 10, 21), b"x")
        .raw(&owned(b'5', b"./shared/sub/", 0o700, 3, 4), b"")
        .raw(&owned(b'5', b"./tmp/", 0o1777, 0, 0), b"")
        .raw(&owned(b'0', b"./none", 0o000, 7, 8), b"")
        .pax(&[("mtime", b"1500000000.123456789"), ("SCHILY.xattr.user.one", b"1"), ("SCHILY.xattr.user.two", b"2\n=\0x")])
        .file("./attrs", "attrs")
        .pax(&[("SCHILY.xattr.security.capability", CAPABILITY)])
        .raw(&owned(b'0', b"./bin/capable", 0o755, 0, 5), b"capable")
        .pax(&[("SCHILY.xattr.system.posix_acl_access", ACL)])
        .raw(&owned(b'0', b"./acl", 0o750, 0, 0), b"acl")
        .pax(&[("SCHILY.xattr.system.posix_acl_default", ACL), ("SCHILY.xattr.trusted.thing", b"t")])
        .raw(&owned(b'5', b"./acldir/", 0o755, 0, 0), b"")
        .raw(&owned(b'0', b"./acldir/child", 0o644, 0, 0), b"no acl")
        .raw(&Header { link: b"../some/where", ..owned(b'2', b"./bin/link", 0o777, 9, 9) }, b"")
        .raw(&Header { link: b"./bin/suid", ..owned(b'1', b"./bin/hard", 0o4755, 0, 0) }, b"")
        .raw(&Header { link: b"bin/link", ..owned(b'1', b"./bin/hardsym", 0o777, 0, 0) }, b"")
        .raw(&Header { device: (1, 3), ..owned(b'3', b"./null", 0o666, 0, 0) }, b"")
        .raw(&Header { device: (8, 259), ..owned(b'4', b"./disk", 0o660, 0, 6) }, b"")
        .raw(&owned(b'6', b"./fifo", 0o600, 2, 2), b"")
        .pax(&[("path", long.as_bytes()), ("uid", b"3000000"), ("gid", b"3000001")])
        .file("short", "long")
        .pax(&[("mtime", b"-1.25")])
        .file("./old", "before 1970")
        .file("./big", &"0123456789abcdef".repeat(100_000))
        .raw(&owned(b'5', b"./gone/", 0o755, 0, 0), b"")
        .file("./gone/x", "x")
        .file("./changed", "before");
    let second = Tar::new()
        .raw(&owned(b'5', b"./", 0o750, 0, 0), b"")
        .file("./.wh.gone", "")
        .file("./changed", "after")
        .raw(&owned(b'5', b"./acldir/", 0o711, 5, 5), b"")
        .raw(&owned(b'0', b"./acldir/other", 0o644, 0, 0), b"no acl either")
        // No entry for bin: its times stay.
        .raw(&owned(b'0', b"./shared/sub/new", 0o600, 3, 4), b"new");
    let third = Tar::new()
        .raw(&owned(b'5', b"./shared/sub/", 0o755, 3, 4), b"")
        .raw(&owned(b'0', b"./shared/sub/new", 0o600, 3, 4), b"newer")
        .file("./bin/suid", "another");
    vec![first, second, third]
}

fn umoci(place: &Place) -> BTreeMap<String, String> {
    let out = Command::new("umoci").args(["raw", "unpack", "--image", "image:latest", "theirs"]).current_dir(&place.dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    describe(&place.path("theirs"))
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn every_kind_of_entry_as_umoci_has_it() {
    needs_root!();
    if !has("umoci") {
        skip!("needs umoci");
    }
    let place = Place::new("umoci").image(everything());
    let mut theirs = umoci(&place);
    place.unpack(&[]);
    let mut ours = describe(&place.root(""));
    // A directory that nobody named: umoci leaves the time of unpacking.
    for tree in [&mut ours, &mut theirs] {
        let implied = tree.get_mut(&"d".repeat(120)).unwrap();
        *implied = implied.split(' ').take(2).collect::<Vec<_>>().join(" ");
    }
    // umoci makes what is below a directory with a default ACL inherit it; the archive says otherwise.
    for name in ["acldir/child", "acldir/other"] {
        assert!(!ours[name].contains("posix_acl"), "{}", ours[name]);
        theirs.remove(name);
        ours.remove(name);
    }
    assert_same(&ours, &theirs);
}

/// Directories that are left stay open for a while. What happens to them meanwhile counts all the same.
#[test]
fn archives_may_go_to_and_fro() {
    needs_root!();
    let to_and_fro = |mut tar: Tar, names: &[String], file: &str| {
        for name in names {
            tar = tar.file(&format!("{name}/{file}"), name);
        }
        tar
    };
    let many: Vec<String> = (0..12).map(|n| format!("many/{n}")).collect();
    let owned = |path, mode, gid| Header { mode, gid, ..header(b'5', path) };
    let mut first = Tar::new().dir("./").dir("a/").dir("a/x/").raw(&owned(b"b/", 0o2750, 7), b"").dir("e/").dir("many/");
    first = first.pax(&[("SCHILY.xattr.system.posix_acl_default", ACL)]).dir("c/");
    first = many.iter().fold(first, |tar, name| tar.dir(&format!("{name}/")));
    for round in ["1", "2", "3"] {
        first = to_and_fro(first, &["a".into(), "b".into(), "c".into(), "a/x".into(), "e".into()], round);
        first = to_and_fro(first, &many[..if round == "2" { 3 } else { 12 }], round);
    }
    // A directory becomes a file and a directory again, another a symlink to one that is still open.
    first = first.file("a/x/old", "").file("b/4", "").file("a/x", "file").file("b/5", "").dir("a/x/").file("b/6", "").file("a/x/new", "");
    first = first.file("e/4", "").file("a/4", "").symlink("e", "a").file("b/7", "").file("e/through", "").file("a/5", "").file("e/again", "").file("b/8", "");
    // Whiteouts in between; the last one takes a directory that was just left.
    let second = Tar::new().file("a/6", "").file("b/.wh.1", "").file("a/.wh.1", "").file("b/2", "changed").file("c/.wh.1", "").file("a/7", "");
    let second = second.file(".wh.c", "").file("c/only", "").file("many/3/.wh.1", "").file("many/4/4", "").file("many/3/.wh..wh..opq", "").file("many/3/4", "");
    let place = Place::new("to-and-fro").image(vec![first, second]);
    place.unpack(&[]);
    let plain = describe(&place.root(""));

    let below = |dir: &str| plain.keys().filter_map(|name| name.strip_prefix(&format!("{dir}/"))).collect::<Vec<_>>().join(" ");
    assert_eq!(below("a"), "2 3 4 5 6 7 again through x x/new");
    assert_eq!(below("b"), "2 3 4 5 6 7 8");
    assert_eq!((below("c"), below("many/3"), below("many/4")), ("only".into(), "4".into(), "1 3 4".into()));
    assert!(plain["e"].contains("-> a"), "{}", plain["e"]);
    assert!(plain["b"].starts_with("42750 0:7") && plain["b/8"].starts_with("100644 0:0"), "{} {}", plain["b"], plain["b/8"]);
    // Each directory has the time that the archive says, whatever was made or removed in it later.
    for (name, text) in plain.iter().filter(|(name, text)| text.starts_with('4') && !name.is_empty()) {
        assert!(text.contains(" 1000000000.000000000"), "{name}: {text}");
    }

    place.again();
    place.unpack(&["--overlay"]);
    let (mut plain, mut merged) = (plain, describe(&place.root("")));
    for tree in [&mut plain, &mut merged] {
        tree.remove("");
    }
    assert_same(&merged, &plain);
}

#[test]
fn an_overlay_looks_the_same() {
    needs_root!();
    let place = Place::new("overlay").image(everything());
    place.unpack(&[]);
    let plain = describe(&place.root(""));
    place.again();
    place.unpack(&["--overlay"]);
    let mut merged = describe(&place.root(""));
    // It is what changes in the container that has the root's time.
    let time = |text: &str| text.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let mut plain = plain;
    for tree in [&mut plain, &mut merged] {
        let root = tree.get_mut("").unwrap();
        *root = time(root);
    }
    assert_same(&merged, &plain);
    // A second bundle has the layers at hand: nothing is read, so nothing needs to be there.
    place.again();
    let media = fs::read_dir(place.path("image/blobs/sha256")).unwrap().map(|e| e.unwrap().path());
    media.filter(|p| fs::read(p).unwrap().starts_with(&[0x1f, 0x8b])).for_each(|p| fs::write(p, b"").unwrap());
    place.unpack(&["--overlay"]);
    assert_eq!(fs::read_to_string(place.root("changed")).unwrap(), "after");
}

#[test]
fn gnu_tar_s_formats() {
    needs_root!();
    let place = Place::new("gnu");
    let source = place.path("source");
    fs::create_dir_all(source.join("x".repeat(150))).unwrap();
    fs::write(source.join("x".repeat(150)).join("y".repeat(180)), "deep").unwrap();
    std::os::unix::fs::symlink("t".repeat(140), source.join("link")).unwrap();
    // Data, a hole, data, a hole at the end.
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[1; 70_000], 1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, &[2; 5000], 5 << 20).unwrap();
    sparse.set_len(9 << 20).unwrap();
    let wanted = describe(&source);
    for format in [
        &["--format=gnu"][..],
        &["--format=pax"],
        &["--format=pax", "--sparse", "--sparse-version=0.0"],
        &["--format=pax", "--sparse", "--sparse-version=0.1"],
        &["--format=pax", "--sparse", "--sparse-version=1.0"],
        &["--format=gnu", "--sparse"],
    ] {
        let out = Command::new("tar").args(format).args(["--numeric-owner", "-C"]).arg(&source).args(["-cf", "-", "."]).output().unwrap();
        assert!(out.status.success());
        let _ = fs::remove_dir_all(place.path("image"));
        let blob = Blob { diff_id: dhow::image::Digest::of(&out.stdout), bytes: gzip(&out.stdout), media: "application/vnd.oci.image.layer.v1.tar+gzip" };
        layout(&place.path("image"), &[blob], json!({"Cmd": ["x"]}));
        place.unpack(&[]);
        let mut ours = describe(&place.root(""));
        let mut wanted = wanted.clone();
        if format[0] == "--format=gnu" {
            // It has whole seconds.
            for tree in [&mut ours, &mut wanted] {
                tree.values_mut().for_each(|text| *text = text.split(' ').map(|word| word.split('.').next().unwrap()).collect::<Vec<_>>().join(" "));
            }
        }
        assert_same(&ours, &wanted);
        if format.contains(&"--sparse") {
            let blocks = fs::metadata(place.root("sparse")).unwrap().blocks();
            assert!(blocks * 512 < 1 << 20, "{format:?}: {blocks} blocks");
        }
        place.again();
    }
}

#[test]
fn compressed_or_not_by_content() {
    needs_root!();
    let raw = Tar::new().file("x", "x").end();
    let id = || dhow::image::Digest::of(&raw);
    let gz = "application/vnd.oci.image.layer.v1.tar+gzip";
    let two = [gzip(&raw[..700]), gzip(&raw[700..])].concat();
    for (bytes, media) in [
        (raw.clone(), gz),
        (zstd::encode_all(&raw[..], 3).unwrap(), gz),
        (gzip(&raw), "application/vnd.oci.image.layer.v1.tar"),
        (two, gz),
        (gzip(&raw), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ] {
        let place = Place::new("content").blobs(&[Blob { bytes, diff_id: id(), media }], json!({"Cmd": ["x"]}));
        place.unpack(&[]);
        assert_eq!(fs::read_to_string(place.root("x")).unwrap(), "x");
    }
    let place = Place::new("content").blobs(&[Blob { bytes: b"\xfd7zXZ\0\0".to_vec(), diff_id: id(), media: gz }], json!({"Cmd": ["x"]}));
    place.refuses(&[], &["xz"]);
}

#[test]
fn owners_are_mapped() {
    needs_root!();
    let place = Place::new("mapped").image(everything());
    place.refuses(&["--uid-map", "0:100000:65536"], &["uid 3000000", "no range"]);
    let maps = ["--uid-map", "0:100000:65536", "--uid-map", "3000000:200000:10"];
    for overlay in WAYS {
        place.unpack(&[&maps[..], overlay].concat());
        let owner = |name: &str| fs::symlink_metadata(place.root(name)).map(|m| (m.uid(), m.gid())).unwrap();
        assert_eq!((owner(""), owner("bin/theirs"), owner("shared/file")), ((100_000, 100_000), (101_000, 101_001), (100_010, 100_021)));
        assert_eq!(fs::metadata(place.root("bin/theirs")).unwrap().mode() & 0o7777, 0o4711);
        // Capabilities are for the mapped root: version 3 with its uid.
        let capability = &xattrs(&place.root("bin/capable"))["security.capability"];
        assert_eq!((capability[3], &capability[20..]), (3, &100_000u32.to_le_bytes()[..]));
        assert_eq!(xattrs(&place.root("acl"))["system.posix_acl_access"][16..20], 101_000u32.to_le_bytes());
        let config: Value = serde_json::from_slice(&fs::read(place.path("bundle/config.json")).unwrap()).unwrap();
        assert_eq!(config["linux"]["uidMappings"][0], json!({"containerID": 0, "hostID": 100_000, "size": 65_536}));
        place.again();
    }
}

#[test]
fn without_root_all_files_are_the_caller_s() {
    needs_root!();
    let place = Place::new("rootless").image(vec![
        everything()
            .remove(0)
            .raw(&Header { mode: 0o500, ..header(b'5', b"./locked") }, b"")
            .raw(&Header { mode: 0o000, ..header(b'5', b"./locked/in") }, b"")
            .file("./locked/in/x", "x"),
        Tar::new().file("./locked/in/y", "y").file("./locked/in/.wh.x", ""),
    ]);
    fs::set_permissions(&place.dir, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dhowctl"));
    // nobody may not be able to reach our build directory.
    let program = place.path("dhowctl");
    // by another process: one that another test forks from us would hold it open for writing, and it can't be executed
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_dhowctl")).arg(&program).status().unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    command = {
        drop(command);
        Command::new(&program)
    };
    let out = command
        .arg("--store")
        .arg(place.path("store"))
        .args(["unpack", "oci:image", "bundle"])
        .current_dir(&place.dir)
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}");
    assert!(said.contains("device nodes were left out") && said.contains("security.capability"), "{said}");
    let owner = |name: &str| fs::symlink_metadata(place.root(name)).map(|m| (m.uid(), m.gid())).unwrap();
    assert_eq!((owner("bin/theirs"), owner("bin/link")), ((65_534, 65_534), (65_534, 65_534)));
    assert_eq!(fs::metadata(place.root("locked/in")).unwrap().mode() & 0o7777, 0);
    assert!(place.root("locked/in/y").exists() && !place.root("locked/in/x").exists() && !place.root("null").exists());
    let config: Value = serde_json::from_slice(&fs::read(place.path("bundle/config.json")).unwrap()).unwrap();
    assert_eq!(config["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 65_534, "size": 1}]));
    fs::remove_file(program).unwrap();
}

/// A layer that is still being written when the process is killed.
fn endless(place: &Place) -> (std::process::Child, fs::File) {
    // The layer is a fifo, so that the unpacker waits in the middle of it.
    let raw = Tar::new().dir("d").file("d/x", "x").file("big", &"b".repeat(3 << 20)).end();
    let blob = Blob { bytes: raw.clone(), diff_id: dhow::image::Digest::of(&raw), media: "application/vnd.oci.image.layer.v1.tar" };
    layout(&place.path("image"), &[blob], json!({"Cmd": ["x"]}));
    let fifo = place.path("image/blobs/sha256").join(dhow::image::Digest::of(&raw).hex());
    fs::remove_file(&fifo).unwrap();
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let child = place.ctl(&["unpack", "--quiet", "oci:image", "bundle"]).stderr(Stdio::null()).spawn().unwrap();
    let mut feed = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    // More than pipe and buffers hold, so that some of it has been written to files when this returns.
    std::io::Write::write_all(&mut feed, &raw[..(3 << 20) - 4096]).unwrap();
    (child, feed)
}

#[test]
fn a_signal_leaves_nothing_behind() {
    needs_root!();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let place = Place::new("signal");
        let (mut child, feed) = endless(&place);
        assert!(place.path(".bundle.dhowctl/rootfs/d/x").exists());
        // SAFETY: kill(2) of our own child, which is not reaped yet.
        unsafe { libc::kill(child.id() as i32, signal) };
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(128 + signal));
        place.assert_nothing_left();
        drop(feed);
    }
}

#[test]
fn what_a_killed_process_left_is_cleaned_up_by_the_next() {
    needs_root!();
    let place = Place::new("killed");
    let (mut child, feed) = endless(&place);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    assert!(place.path(".bundle.dhowctl").exists() && !place.path("bundle").exists());
    drop(feed);
    fs::remove_dir_all(place.path("image")).unwrap();
    layout(&place.path("image"), &[layer(Tar::new().file("y", "y"))], json!({"Cmd": ["x"]}));
    place.unpack(&[]);
    assert!(place.root("y").exists() && !place.root("d").exists());
    assert!(!place.path(".bundle.dhowctl").exists());
}

/// Killed at many moments, in both ways: whatever is there in the end is whole.
#[test]
fn killed_at_any_moment() {
    needs_root!();
    let many = |n: u32| (0..300).fold(Tar::new().dir("d"), |tar, i| tar.file(&format!("d/{n}-{i}"), "some content"));
    let place = Place::new("moments").image((0..4).map(many).collect());
    for flags in WAYS {
        for ms in (0..40).step_by(3) {
            let mut args = vec!["unpack", "--quiet"];
            args.extend(flags);
            args.extend(["oci:image", "bundle"]);
            let mut child = place.ctl(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // The moment is what this is about.
            std::thread::sleep(std::time::Duration::from_millis(ms));
            let _ = child.kill();
            child.wait().unwrap();
            if place.path("bundle").exists() && flags.is_empty() {
                assert_eq!(fs::read_dir(place.root("d")).unwrap().count(), 1200);
            }
            place.again();
        }
        place.unpack(flags);
        assert_eq!(fs::read_dir(place.root("d")).unwrap().count(), 1200);
        place.again();
        let left = |dir: &str| {
            fs::read_dir(place.path(dir))
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.file_name().into_string().unwrap())
                .filter(|name| name.starts_with(".staging") || name.ends_with(".dhowctl"))
                .collect::<Vec<_>>()
        };
        assert_eq!((left(""), left("store/layers")), (vec![], vec![]));
    }
}

#[test]
fn layers_are_pruned_when_nothing_is_made_of_them() {
    needs_root!();
    let place = Place::new("prune").image(everything());
    place.unpack(&["--overlay"]);
    let store = dhow::image::Store::open(&place.path("store")).unwrap();
    let shared = dhow::image::layers::Layers::open(&store).unwrap();
    assert_eq!(shared.prune(&store).unwrap().layers, 0);
    assert_eq!(fs::read_to_string(place.root("changed")).unwrap(), "after");
    place.again();
    assert_eq!(shared.prune(&store).unwrap().layers, 3);
    assert_eq!(fs::read_dir(place.path("store/layers")).unwrap().count(), 1);
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    /// Of few names, so that entries meet.
    fn path(&mut self) -> String {
        (0..=self.roll(3)).map(|_| self.one_of(&["a", "b", "c", "d", "e"])).collect::<Vec<_>>().join("/")
    }

    fn entry(&mut self, tar: Tar) -> Tar {
        let path = self.path();
        let (uid, gid) = (self.one_of(&[0, 5]), self.one_of(&[0, 6]));
        let raw = |tar: Tar, kind, mode, path: &str, content: &[u8]| tar.raw(&Header { mode, uid, gid, ..header(kind, path.as_bytes()) }, content);
        match self.roll(100) {
            0..25 => raw(tar, b'0', self.one_of(&[0o644, 0o755, 0o4755, 0o600]), &path, &vec![b'x'; self.roll(9)]),
            25..50 => raw(tar, b'5', self.one_of(&[0o755, 0o700, 0o1777, 0o2755]), &path, b""),
            50..62 => tar.symlink(&path, self.one_of(&["a", "b/c", "/a", "../b", "../../../../a", "/c/d", ".", ".."])),
            62..68 => tar.hard_link(&path, &self.path()),
            68..88 => match path.rsplit_once('/') {
                Some((dir, name)) => tar.file(&format!("{dir}/.wh.{name}"), ""),
                None => tar.file(&format!(".wh.{path}"), ""),
            },
            88..94 => tar.file(&format!("{path}/.wh..wh..opq"), ""),
            _ => raw(tar, b'6', 0o644, &path, b""),
        }
    }
}

/// What there is, but for times: of directories that no entry names they are as they come. overlayfs lists a whiteout
/// that hides nothing in a directory which is in one layer alone; there is nothing of that name.
fn shape(root: &Path) -> BTreeMap<String, String> {
    let (mut out, mut rest) = (BTreeMap::new(), vec![root.to_path_buf()]);
    while let Some(dir) = rest.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let content =
                if meta.is_file() { fs::read(&path).unwrap() } else { fs::read_link(&path).unwrap_or_default().into_os_string().into_encoded_bytes() };
            let text = format!("{:o} {}:{} {}", meta.mode(), meta.uid(), meta.gid(), String::from_utf8_lossy(&content));
            out.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
            if meta.is_dir() {
                rest.push(path);
            }
        }
    }
    out
}

/// Layers at random: as a copy and as an overlay they come to the same, and so with umoci, as far as it takes them too.
#[test]
fn layers_at_random() {
    needs_root!();
    let (mut taken, mut compared) = (0, 0);
    for seed in 1..=50 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15u64.wrapping_mul(seed));
        let layers = (0..=dice.roll(4)).map(|_| (0..=dice.roll(5)).fold(Tar::new(), |tar, _| dice.entry(tar))).collect();
        let place = Place::new("random").image(layers);
        let [copy, overlay] = [WAYS[0], WAYS[1]].map(|flags| {
            let out = place.unpack_with(flags);
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.success() || out.status.code() == Some(1) && said.starts_with("error: "), "seed {seed}: {out:?}");
            place.assert_outside_untouched();
            let found = out.status.success().then(|| shape(&place.root("")));
            place.again();
            place.assert_nothing_left();
            found
        });
        let Some(copy) = copy else {
            assert!(overlay.is_none(), "seed {seed}: a copy is refused, an overlay is not");
            continue;
        };
        let overlay = overlay.unwrap_or_else(|| panic!("seed {seed}: an overlay is refused, a copy is not"));
        assert_eq!(copy, overlay, "seed {seed}");
        taken += 1;
        let theirs =
            has("umoci").then(|| Command::new("umoci").args(["raw", "unpack", "--image", "image:latest", "theirs"]).current_dir(&place.dir).output().unwrap());
        if theirs.is_some_and(|out| out.status.success()) {
            assert_eq!(copy, shape(&place.path("theirs")), "seed {seed}: umoci");
            compared += 1;
        }
    }
    assert!(taken > 15 && (compared > 15 || !has("umoci")), "{taken} {compared}");
}
