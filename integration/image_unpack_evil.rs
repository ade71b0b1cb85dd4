//! Layers as an attacker would write them: each past hole of image tools, and what else comes to mind. Nothing outside
//! the root is touched, and what is refused leaves nothing behind.

#[path = "support/layers.rs"]
mod layers;

use layers::*;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

macro_rules! needs_root {
    () => {
        // SAFETY: geteuid(2) can't fail.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: {}: needs root", std::thread::current().name().unwrap_or("?"));
            return;
        }
    };
}

/// The image in every way: `check` looks at the result.
fn each_way(place: &Place, check: impl Fn(&Place, &[&str])) {
    for flags in WAYS {
        check(place, flags);
        place.again();
    }
}

/// As a link of the image would have to be written to get to `outside`.
fn outside(place: &Place) -> String {
    place.path("outside").display().to_string()
}

#[test]
fn absolute_names_are_below_the_root() {
    needs_root!();
    let place = Place::new("absolute");
    let target = format!("{}/pwned", outside(&place));
    let place = place.image(vec![Tar::new().file("/etc/x", "1").pax(&[("path", target.as_bytes())]).file("short", "2")]);
    // In an overlay the directories that nobody named are made over nothing: it is the base.
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_to_string(place.root("etc/x")).unwrap(), "1");
        assert_eq!(fs::read_to_string(place.root(target.trim_start_matches('/'))).unwrap(), "2");
    });
}

#[test]
fn dotdot_is_refused() {
    needs_root!();
    for name in ["../outside/pwned", "a/../../outside/pwned", "a/..", "..", "/../x"] {
        let place = Place::new("dotdot").image(vec![Tar::new().dir("a").file(name, "x")]);
        each_way(&place, |place, flags| place.refuses(flags, &["layer sha256:", "\"..\""]));
    }
}

#[test]
fn symlinks_lead_nowhere_else() {
    needs_root!();
    for through in ["link/pwned", "link/a/pwned"] {
        let place = Place::new("symlink");
        let place_out = outside(&place);
        let place = place.image(vec![Tar::new().symlink("link", &place_out).file(through, "x")]);
        // Below the root there is no such directory.
        each_way(&place, |place, flags| place.refuses(flags, &["no directory"]));
    }
    let place = Place::new("relative").image(vec![Tar::new().symlink("link", "../../../../../../../outside").dir("outside").file("link/x", "inside")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_to_string(place.root("outside/x")).unwrap(), "inside");
    });
}

#[test]
fn a_link_of_an_earlier_layer_is_followed_within_the_root() {
    needs_root!();
    let place = Place::new("earlier");
    let out = outside(&place);
    let place = place.image(vec![
        Tar::new().dir("usr").dir("usr/lib").file("usr/lib/a", "a").symlink("lib", "usr/lib").symlink("out", &out),
        Tar::new().file("lib/b", "b"),
        Tar::new().file("lib/c", "c").file("usr/lib/a", "new"),
    ]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(place.root("lib").is_symlink());
        let read = |name: &str| fs::read_to_string(place.root(name)).unwrap();
        assert_eq!((read("usr/lib/a"), read("usr/lib/b"), read("usr/lib/c")), ("new".into(), "b".into(), "c".into()));
    });
    // Within one layer, to what another has: neither entry is of use alone.
    let place = Place::new("leads-below").image(vec![
        Tar::new().dir("usr").file("usr/old", "o").file("usr/kept", "k").file("f", "f"),
        Tar::new().symlink("link", "usr").file("link/new", "n").file("link/.wh.old", "").file("f", "f").file("f/.wh.x", ""),
    ]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(place.root("link").is_symlink() && place.root("f").is_file());
        assert_eq!((place.root("usr/new").exists(), place.root("usr/old").exists(), place.root("usr/kept").exists()), (true, false, true), "{flags:?}");
    });
    let place = Place::new("earlier-out");
    let out = outside(&place);
    let place = place.image(vec![Tar::new().symlink("out", &out), Tar::new().file("out/pwned", "x")]);
    each_way(&place, |place, flags| place.refuses(flags, &["no directory"]));
}

/// CVE-2021-29136: the root itself made a symlink.
#[test]
fn the_root_is_a_directory() {
    needs_root!();
    for name in ["/.", ".", "./", "/"] {
        let place = Place::new("root");
        let out = outside(&place);
        let place = place.image(vec![Tar::new().symlink(name, &out).file("pwned", "x")]);
        each_way(&place, |place, flags| place.refuses(flags, &["the root can only be a directory"]));
    }
}

#[test]
fn a_directory_takes_a_symlink_s_place() {
    needs_root!();
    let place = Place::new("replace");
    let out = outside(&place);
    let place = place.image(vec![Tar::new().symlink("d", &out), Tar::new().dir("d").file("d/x", "x")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(place.root("d/x").is_file() && !place.root("d").is_symlink());
    });
}

#[test]
fn a_file_does_not_write_through_a_symlink() {
    needs_root!();
    let place = Place::new("through");
    let marker = format!("{}/marker", outside(&place));
    let place = place.image(vec![Tar::new().symlink("f", &marker).file("f", "overwritten").symlink("g", &marker), Tar::new().file("g", "overwritten")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_to_string(place.root("f")).unwrap(), "overwritten");
        assert_eq!(fs::read_to_string(place.root("g")).unwrap(), "overwritten");
    });
}

/// CVE-2026-33056: the mode of a directory set through a symlink that took its place.
#[test]
fn no_mode_or_owner_goes_through_a_symlink() {
    needs_root!();
    let place = Place::new("chmod");
    let out = outside(&place);
    fs::set_permissions(place.path("outside"), fs::Permissions::from_mode(0o700)).unwrap();
    let wild = Header { mode: 0o777, uid: 99, gid: 99, ..header(b'5', b"d") };
    let link = Header { mode: 0o777, uid: 99, gid: 99, link: out.as_bytes(), ..header(b'2', b"d") };
    let place = place.image(vec![Tar::new().raw(&wild, b"").raw(&link, b"").raw(&link, b"")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        let meta = fs::metadata(place.path("outside")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o700, 0));
        assert_eq!(fs::symlink_metadata(place.root("d")).unwrap().uid(), 99);
    });
}

#[test]
fn hard_links_stay_in_the_root() {
    needs_root!();
    let place = Place::new("hardlink");
    let marker = format!("{}/marker", outside(&place));
    // Names from the root, so there is nothing of that name.
    let layers = vec![Tar::new().raw(&header(b'0', b"x"), b"").pax(&[("linkpath", marker.as_bytes())]).raw(&header(b'1', b"stolen"), b"")];
    let place = place.image(layers);
    place.refuses(&[], &["stolen"]);
    for (link, word) in [("../outside/marker", "\"..\""), ("", "a hard link to the root"), ("/", "a hard link to the root")] {
        let place = Place::new("hardlink").image(vec![Tar::new().hard_link("stolen", link)]);
        place.refuses(&[], &[word]);
    }
    // By a symlink that leads out: it is resolved below the root, and the last component isn't followed.
    let place = Place::new("hardlink-by-symlink");
    let out = outside(&place);
    let place = place.image(vec![Tar::new().symlink("d", &out).symlink("m", &format!("{out}/marker")).hard_link("kept", "m").hard_link("stolen", "d/marker")]);
    place.refuses(&[], &["stolen"]);
    let place = Place::new("hardlink-of-symlink");
    let out = outside(&place);
    let place = place.image(vec![Tar::new().symlink("m", &format!("{out}/marker")).hard_link("kept", "m")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(place.root("kept").is_symlink());
        assert_eq!(fs::metadata(place.path("outside/marker")).unwrap().nlink(), 1);
    });
}

/// A target that isn't there is not looked for in the working directory (CVE-2026-50163).
#[test]
fn a_hard_link_s_target_is_not_the_caller_s() {
    needs_root!();
    let place = Place::new("hardlink-cwd").image(vec![Tar::new().hard_link("stolen", "outside/marker")]);
    place.refuses(&[], &["stolen"]);
}

#[test]
fn a_hard_link_to_a_lower_layer_is_one() {
    needs_root!();
    let place = Place::new("hardlink-below").image(vec![Tar::new().dir("a").file("a/x", "x"), Tar::new().hard_link("a/y", "a/x")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_to_string(place.root("a/y")).unwrap(), "x");
        assert_eq!(fs::metadata(place.root("a/y")).unwrap().ino(), fs::metadata(place.root("a/x")).unwrap().ino());
    });
}

#[test]
fn hard_links_to_themselves_and_over_files() {
    needs_root!();
    let place = Place::new("hardlink-self").image(vec![Tar::new().file("a", "a").hard_link("a", "a").hard_link("a", "./a").file("b", "b").hard_link("b", "a")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_to_string(place.root("a")).unwrap(), "a");
        assert_eq!(fs::metadata(place.root("a")).unwrap().ino(), fs::metadata(place.root("b")).unwrap().ino());
    });
}

#[test]
fn whiteouts_stay_in_their_directory() {
    needs_root!();
    for name in [".wh...", ".wh..", ".wh.", "a/.wh..."] {
        let place = Place::new("whiteout-dotdot").image(vec![Tar::new().dir("a").file("a/x", "x"), Tar::new().dir("a").file(name, "")]);
        each_way(&place, |place, flags| place.refuses(flags, &["a whiteout of no name"]));
    }
    let place = Place::new("whiteout-symlink");
    let out = outside(&place);
    let place = place.image(vec![
        Tar::new().symlink("d", &out).symlink("m", &format!("{out}/marker")).dir("keep").file("keep/x", "x").symlink("k", "keep"),
        Tar::new().file("d/.wh.marker", "").file("d/.wh..wh..opq", "").file(".wh.m", "").file("k/.wh.x", ""),
    ]);
    place.unpack(&[]);
    assert!(!place.root("m").exists() && !place.root("m").is_symlink());
    // Within the root a link is followed, as for any other name.
    assert!(!place.root("keep/x").exists());
}

#[test]
fn whiteouts_hide_what_is_below_alone() {
    needs_root!();
    let place = Place::new("whiteouts").image(vec![
        Tar::new()
            .dir("a")
            .file("a/1", "1")
            .file("a/2", "2")
            .dir("a/d")
            .file("a/d/x", "x")
            .dir("b")
            .file("b/1", "1")
            .file("c", "c")
            .dir("e")
            .file("e/old", "o"),
        // Before and after what they go with; a directory that is hidden and made again is empty.
        Tar::new()
            .dir("a")
            .file("a/.wh.1", "")
            .file("a/2", "new")
            .file("a/.wh.2", "")
            .file("a/.wh.d", "")
            .dir("b")
            .file("b/new", "n")
            .file("b/.wh..wh..opq", "")
            .file(".wh.e", "")
            .dir("e")
            .file("e/new", "n")
            .file(".wh.nothing", ""),
        Tar::new().file(".wh.c", "").dir("a").file("a/3", "3"),
    ]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        let mut found: Vec<String> = Command::new("find")
            .arg(".")
            .current_dir(place.root(""))
            .output()
            .map(|o| String::from_utf8(o.stdout).unwrap().lines().map(str::to_string).collect())
            .unwrap();
        found.sort();
        assert_eq!(found, [".", "./a", "./a/2", "./a/3", "./b", "./b/new", "./e", "./e/new"], "{flags:?}");
        assert_eq!(fs::read_to_string(place.root("a/2")).unwrap(), "new");
    });
}

/// What is in a directory that is hidden anyway makes no directory.
#[test]
fn a_whiteout_within_a_whiteout() {
    needs_root!();
    let below = Tar::new().dir("e").file("e/c", "old").dir("k").dir("k/e");
    let place =
        Place::new("within").image(vec![below, Tar::new().file(".wh.e", "").file("e/.wh.c", "").dir("k").file("k/.wh.e", "").file("k/e/.wh..wh..opq", "")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(!place.root("e").exists() && !place.root("k/e").exists(), "{flags:?}");
    });
}

/// A directory that nobody named has the bit of the one that it is in, and hands its group on; entries say otherwise.
#[test]
fn a_group_is_not_inherited() {
    needs_root!();
    let shared = Header { mode: 0o2755, gid: 50, ..header(b'5', b"d") };
    let place = Place::new("setgid").image(vec![Tar::new().raw(&shared, b"").file("d/a/f", "").dir("d/a/b").file("d/a/b/f", "")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        for (name, mode) in [("d/a/f", 0o644), ("d/a/b", 0o755), ("d/a/b/f", 0o644)] {
            let meta = fs::metadata(place.root(name)).unwrap();
            assert_eq!((meta.gid(), meta.mode() & 0o7777), (0, mode), "{name} {flags:?}");
        }
    });
}

/// A directory's own name is that of nothing in it: what a layer has an entry for is not what the layer below has there.
#[test]
fn whiteouts_of_what_is_called_as_its_directory() {
    needs_root!();
    let below = || Tar::new().dir("app").file("app/app", "old").dir("lib").dir("lib/lib").file("lib/lib/x", "old").dir("d").dir("d/d").file("d/d/x", "old");
    let above = || Tar::new().dir("app").file("app/.wh.app", "").dir("lib").file("lib/.wh.lib", "").dir("d").file("d/.wh..wh..opq", "").file("d/new", "");
    let place = Place::new("samename").image(vec![below(), above(), Tar::new().file("other", "")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(!place.root("app/app").exists() && !place.root("lib/lib").exists() && !place.root("d/d").exists(), "{flags:?}");
        assert!(place.root("app").is_dir() && place.root("lib").is_dir() && place.root("d/new").exists());
    });
    // The directory itself hidden and made again, in this order.
    let place = Place::new("samename-whole").image(vec![below(), Tar::new().dir("lib").file(".wh.lib", "")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_dir(place.root("lib")).unwrap().count(), 0, "{flags:?}");
    });
}

/// overlayfs's own marks in a layer would redirect or hide.
#[test]
fn overlayfs_s_words_are_not_the_image_s() {
    needs_root!();
    let records: [(&str, &[u8]); 3] =
        [("SCHILY.xattr.trusted.overlay.redirect", b"/secret"), ("SCHILY.xattr.trusted.overlay.opaque", b"y"), ("SCHILY.xattr.user.overlay.opaque", b"y")];
    let place = Place::new("redirect").image(vec![Tar::new().dir("secret").file("secret/x", "x").dir("d").file("d/y", "y"), Tar::new().pax(&records).dir("d")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(place.root("d/y").exists() && !place.root("d/x").exists(), "{flags:?}");
    });
}

/// CVE-2026-33055, CVE-2025-62518: header and PAX disagree about the size, and so about where the next entry begins.
#[test]
fn the_size_is_pax_s() {
    needs_root!();
    let inner = Tar::new().file("smuggled", "x").0;
    let length = inner.len().to_string();
    let mut tar = Tar::new().pax(&[("size", length.as_bytes())]).raw(&header(b'0', b"f"), b"");
    tar.0.extend_from_slice(&inner);
    let place = Place::new("pax-size").image(vec![tar.file("after", "a")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::metadata(place.root("f")).unwrap().len(), inner.len() as u64);
        assert!(place.root("after").exists() && !place.root("smuggled").exists());
    });
}

#[test]
fn impossible_numbers_are_refused() {
    needs_root!();
    let huge = |size: &[u8; 12]| {
        let mut block = header(b'0', b"f").block();
        block[124..136].copy_from_slice(size);
        seal(&mut block);
        Tar::new().block(&block)
    };
    let table: Vec<(Tar, &str)> = vec![
        (huge(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), "bytes"),
        (huge(b"\x80\0\0\0\x80\0\0\0\0\0\0\0"), "out of range"),
        (huge(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), "negative"),
        (huge(b"77777777777\0"), "truncated"),
        (Tar::new().pax(&[("size", b"9223372036854775807")]).file("f", ""), "bytes"),
        (Tar::new().pax(&[("size", b"-1")]).file("f", ""), "negative"),
        (Tar::new().pax(&[("uid", b"4294967295")]).file("f", ""), "out of range"),
        (Tar::new().pax(&[("gid", b"4294967296")]).file("f", ""), "out of range"),
        (Tar::new().pax(&[("path", b"a\0b")]).file("f", ""), "NUL"),
        (Tar::new().raw(&Header { kind: b'Q', ..header(b'0', b"f") }, b""), "unknown type"),
        (Tar::new().symlink("s", ""), "symlink"),
        (Tar::new().pax(&[("GNU.sparse.realsize", b"10"), ("GNU.sparse.map", b"5,10")]).file("f", "0123456789"), "impossible map"),
        (Tar::new().file("f", "x").file("f/y", "y"), "no directory"),
    ];
    for (tar, word) in table {
        let place = Place::new("numbers").image(vec![tar]);
        place.refuses(&[], &[word]);
    }
    // Names and records are kept in memory, so they are bounded.
    let mut long = Header { size: 1 << 40, ..header(b'L', b"././@LongLink") }.block();
    seal(&mut long);
    let place = Place::new("longname").image(vec![Tar::new().block(&long)]);
    place.refuses(&[], &["1048576 are allowed"]);
    let deep = "d/".repeat(3000);
    let place = Place::new("deep").image(vec![Tar::new().pax(&[("path", deep.as_bytes())]).dir("x")]);
    place.refuses(&[], &["too long"]);
}

#[test]
fn a_truncated_or_changed_layer_is_refused() {
    needs_root!();
    let whole = Tar::new().dir("a").file("a/x", &"content".repeat(1000));
    let raw = whole.clone().end();
    let blob = |bytes: Vec<u8>| Blob { bytes, ..layer(whole.clone()) };
    let other = layer(Tar::new().file("other", "x"));
    let table: Vec<(Blob, &str)> = vec![
        (blob(gzip(&raw[..2000])), "truncated"),
        (blob(gzip(&raw)[..60].to_vec()), "truncated"),
        (
            blob({
                let mut bytes = gzip(&raw);
                let end = bytes.len() - 6;
                bytes[end] ^= 1;
                bytes
            }),
            "damaged",
        ),
        (blob(b"no archive at all".to_vec()), "truncated"),
        (blob(vec![7; 4096]), "checksum"),
        (Blob { diff_id: layer(Tar::new()).diff_id, ..other }, "diff id"),
    ];
    for (blob, word) in table {
        let place = Place::new("truncated").blobs(&[layer(Tar::new().file("below", "x")), blob], json!({"Cmd": ["x"]}));
        each_way(&place, |place, flags| place.refuses(flags, &[word]));
    }
}

#[test]
fn bombs_are_bounded() {
    needs_root!();
    let zeros = "\0".repeat(8 << 20);
    let place = Place::new("bomb").image(vec![Tar::new().file("zeros", &zeros)]);
    place.refuses(&["--max-size", "1M"], &["--max-size sets the limit"]);
    place.unpack(&["--max-size", "9M"]);
    place.again();
    // A file of three GiB of zeros, in frames of some bytes each.
    let frame = zstd::encode_all(&vec![0; 8 << 20][..], 1).unwrap();
    let start = Header { size: 3 << 30, ..header(b'0', b"zeros") }.block();
    let bytes = [zstd::encode_all(&start[..], 1).unwrap(), frame.repeat(3 << 7)].concat();
    let place = Place::new("ratio").blobs(&[Blob { bytes, ..layer(Tar::new()) }], json!({"Cmd": ["x"]}));
    place.refuses(&[], &["more than 100 times its size", "--max-ratio sets the limit"]);
    place.refuses(&["--max-ratio", "1000000", "--max-size", "1100M"], &["--max-size sets the limit"]);
    let many = (0..100).fold(Tar::new(), |tar, n| tar.file(&format!("f{n}"), ""));
    let place = Place::new("entries").image(vec![many.clone(), many]);
    place.refuses(&["--max-entries", "150"], &["--max-entries sets the limit"]);
    place.unpack(&["--max-entries", "200"]);
}

/// Each link leads to the end of what the one before leads to, so that the tree is three times as deep as a path is long;
/// and it all has to go, since the layer turns out to be another than it was said to be.
#[test]
fn what_is_nested_beyond_all_paths_is_removed() {
    needs_root!();
    let chunk = vec!["d"; 2000].join("/");
    let mut tar = Tar::new().pax(&[("path", chunk.as_bytes())]).dir("x").pax(&[("linkpath", chunk.as_bytes())]).symlink("0", "x");
    for hop in 1..3 {
        let end = format!("{}/{chunk}", hop - 1);
        tar = tar.pax(&[("path", end.as_bytes())]).dir("x").pax(&[("linkpath", end.as_bytes())]).symlink(&hop.to_string(), "x");
    }
    let blob = Blob { diff_id: layer(Tar::new()).diff_id, ..layer(tar) };
    let place = Place::new("nested").blobs(&[layer(Tar::new().file("below", "x")), blob], json!({"Cmd": ["x"]}));
    for flag in ["--quiet", "--overlay"] {
        // As many descriptors as most sessions have.
        let limited = "ulimit -Sn 1024; exec \"$@\"";
        let ctl = place.ctl(&["unpack", flag, "oci:image", "bundle"]);
        let mut command = Command::new("sh");
        command.args(["-c", limited, "sh"]).arg(ctl.get_program()).args(ctl.get_args()).current_dir(&place.dir);
        let out = command.output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains("diff id") && !said.contains("warning"), "{flag}: {said}");
        place.assert_nothing_left();
    }
}

/// What `docker save` writes can be just as bad.
#[test]
fn an_archive_of_an_image_is_read_as_carefully() {
    needs_root!();
    let place = Place::new("archive");
    let refused = |word: &str| {
        let out = place.ctl(&["unpack", "docker-archive:image.tar", "bundle"]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!out.status.success() && said.contains(word), "{word:?} is not in: {said}");
        place.assert_nothing_left();
    };
    // A name of three GiB, all of which would be in memory; on disk it is a hole.
    let file = fs::File::create(place.path("image.tar")).unwrap();
    std::io::Write::write_all(&mut &file, &Header { size: 3 << 30, ..header(b'L', b"././@LongLink") }.block()).unwrap();
    file.set_len((3 << 30) + 4096).unwrap();
    refused("1048576 are allowed");
    let raw = layer(Tar::new().file("f", "content"));
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["x"]}, "rootfs": {"type": "layers", "diff_ids": [raw.diff_id]}}).to_string();
    let manifest = |layer: &str| json!([{"Config": "config.json", "RepoTags": null, "Layers": [layer]}]).to_string();
    let archive = |named: &str| Tar::new().file("manifest.json", &manifest(named)).file("config.json", &config).raw(&header(b'0', b"a/layer.tar"), &raw.bytes);
    let whole = archive("a/layer.tar").end();
    fs::write(place.path("image.tar"), &whole[..whole.len() - 1024 - 500]).unwrap();
    refused("in the middle of a/layer.tar");
    fs::write(place.path("image.tar"), archive("../../etc/passwd").end()).unwrap();
    refused("there is no ../../etc/passwd in it");
    fs::write(place.path("image.tar"), archive("b").symlink("b", "../../../../etc/passwd").end()).unwrap();
    refused("there is no b in it");
    fs::write(place.path("image.tar"), archive("b").symlink("b", "b").end()).unwrap();
    refused("there is no b in it");
    // Old ones have links to the layers that they share: symbolic ones from where they are, hard ones from the top.
    for (number, link) in [Tar::new().symlink("b/layer.tar", "../a/layer.tar"), Tar::new().hard_link("b/layer.tar", "a/layer.tar")].into_iter().enumerate() {
        let Tar(bytes) = archive("b/layer.tar");
        fs::write(place.path("image.tar"), Tar([bytes, link.0].concat()).end()).unwrap();
        let bundle = format!("bundle{number}");
        let out = place.ctl(&["unpack", "docker-archive:image.tar", &bundle]).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        assert_eq!(fs::read_to_string(place.path(&format!("{bundle}/rootfs/f"))).unwrap(), "content");
    }
}

#[test]
fn more_layers_than_a_mount_takes() {
    needs_root!();
    let place = Place::new("morelayers").image((0..200).map(|n| Tar::new().file(&n.to_string(), "x")).collect());
    place.refuses(&["--overlay"], &["more layers than mount(2) takes", "without --overlay"]);
    place.unpack(&[]);
}

#[test]
fn a_layer_that_is_kept_elsewhere_is_named() {
    needs_root!();
    let foreign = Blob { media: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", ..layer(Tar::new().file("f", "x")) };
    let place = Place::new("foreign").blobs(&[foreign], json!({"Cmd": ["x"]}));
    let kept: Vec<_> = fs::read_dir(place.path("image/blobs/sha256")).unwrap().map(|e| e.unwrap().path()).collect();
    // The only blob that is no JSON.
    kept.iter().filter(|path| fs::read(path).unwrap()[0] != b'{').for_each(|path| fs::remove_file(path).unwrap());
    each_way(&place, |place, flags| place.refuses(flags, &["a foreign layer, which is not fetched"]));
}

#[test]
fn a_user_that_overflows_is_refused() {
    needs_root!();
    let blob = || layer(Tar::new().dir("etc").file("etc/passwd", "root:x:0:0::/:\nweb:x:33:33::/:\n"));
    for user in ["4294967296", "2147483648", "18446744073709551616:0", "0:4294967296", "nobody"] {
        let place = Place::new("user").blobs(&[blob()], json!({"Cmd": ["x"], "User": user}));
        each_way(&place, |place, flags| place.refuses(flags, &["User"]));
    }
    let place = Place::new("user").blobs(&[layer(Tar::new().dir("etc").file("etc/passwd", &"x".repeat(2 << 20)))], json!({"Cmd": ["x"], "User": "web"}));
    place.refuses(&[], &["/etc/passwd", "more than 1048576 bytes"]);
    let place = Place::new("user")
        .blobs(&[layer(Tar::new().dir("etc").symlink("etc/passwd", "/../../../../../../etc/group"))], json!({"Cmd": ["x"], "User": "daemon"}));
    place.refuses(&[], &["no such user"]);
}

#[test]
fn the_last_of_duplicates_holds() {
    needs_root!();
    let place = Place::new("duplicates").image(vec![
        Tar::new()
            .file("f", "first")
            .dir("d")
            .file("d/x", "x")
            .file("f", "second")
            .file("d", "now a file")
            .symlink("f", "third")
            .file("f", "last")
            .dir("f")
            .file("f/in", "in"),
    ]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_to_string(place.root("d")).unwrap(), "now a file");
        assert_eq!(fs::read_to_string(place.root("f/in")).unwrap(), "in");
    });
}

#[test]
fn names_that_are_no_text() {
    needs_root!();
    use std::os::unix::ffi::OsStrExt;
    let name = b"\xff\xfe \x1b[31m\n\t\"";
    let place = Place::new("names").image(vec![Tar::new().raw(&header(b'0', name), b"x").raw(&Header { link: b"\xff\xfd", ..header(b'2', b"l") }, b"")]);
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert!(place.root("").join(std::ffi::OsStr::from_bytes(name)).exists());
        assert_eq!(fs::read_link(place.root("l")).unwrap().as_os_str().as_bytes(), b"\xff\xfd");
    });
    // And in a message they do nothing to a terminal.
    let place = Place::new("names").image(vec![Tar::new().raw(&header(b'0', b"\x1b[31m/../x"), b"")]);
    let said = place.unpack_with(&[]).stderr;
    assert!(!said.contains(&0x1b), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn a_hundred_and_twenty_seven_layers() {
    needs_root!();
    let place = Place::new("many").image((0..127).map(|n| Tar::new().dir("d").file(&format!("d/{n}"), "x").file("last", &n.to_string())).collect());
    each_way(&place, |place, flags| {
        place.unpack(flags);
        assert_eq!(fs::read_dir(place.root("d")).unwrap().count(), 127);
        assert_eq!(fs::read_to_string(place.root("last")).unwrap(), "126");
    });
}

/// The bundle's own place may be a symlink of the caller's; what is in the bundle never is.
#[test]
fn a_bundle_that_is_there_is_left_alone() {
    needs_root!();
    let place = Place::new("there").image(vec![Tar::new().file("x", "x")]);
    fs::create_dir(place.path("bundle")).unwrap();
    fs::write(place.path("bundle/mine"), "mine").unwrap();
    let out = place.unpack_with(&[]);
    assert!(!out.status.success() && String::from_utf8_lossy(&out.stderr).contains("not empty"));
    assert!(place.path("bundle/mine").exists() && !place.path("bundle/rootfs").exists());
    fs::remove_file(place.path("bundle/mine")).unwrap();
    place.unpack(&[]);
    assert!(Path::new(&place.root("x")).exists());
}

/// Where the directory to unpack into was swapped for a link before we came.
#[test]
fn a_planted_draft_is_not_followed() {
    needs_root!();
    let place = Place::new("planted").image(vec![Tar::new().file("x", "x")]);
    symlink(place.path("outside"), place.path(".bundle.dhowctl")).unwrap();
    let out = place.unpack_with(&[]);
    assert!(!out.status.success(), "{out:?}");
    place.assert_outside_untouched();
    assert!(!place.path("outside/rootfs").exists());
}
