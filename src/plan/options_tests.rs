use super::*;

fn parse(options: &[&str]) -> MountOptions {
    MountOptions::parse(&options.iter().map(|s| s.to_string()).collect::<Vec<_>>())
}

#[test]
fn the_table_is_sorted_and_each_name_stands_once() {
    assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
}

#[test]
fn every_option_of_the_spec_is_known() {
    let spec = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev nodiratime noexec \
                noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime \
                remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw \
                rshared rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup \
                unbindable idmap ridmap";
    for option in spec.split_whitespace() {
        assert!(lookup(option).is_some(), "{option}");
    }
}

/// (option, set, clear) of this mount.
#[test]
fn flags_of_the_mount() {
    for (option, set, clear) in [
        ("ro", attr::RDONLY, 0),
        ("rw", 0, attr::RDONLY),
        ("nosuid", attr::NOSUID, 0),
        ("suid", 0, attr::NOSUID),
        ("nodev", attr::NODEV, 0),
        ("dev", 0, attr::NODEV),
        ("noexec", attr::NOEXEC, 0),
        ("exec", 0, attr::NOEXEC),
        ("nodiratime", attr::NODIRATIME, 0),
        ("diratime", 0, attr::NODIRATIME),
        ("nosymfollow", attr::NOSYMFOLLOW, 0),
        ("symfollow", 0, attr::NOSYMFOLLOW),
        ("noatime", attr::NOATIME, attr::ATIME),
        ("strictatime", attr::STRICTATIME, attr::ATIME),
        ("relatime", attr::RELATIME, attr::ATIME),
        ("atime", attr::RELATIME, attr::ATIME),
        ("nostrictatime", attr::RELATIME, attr::ATIME),
        ("norelatime", 0, 0),
        ("silent", 0, 0),
        ("loud", 0, 0),
    ] {
        let got = parse(&[option]);
        assert_eq!((got.this.set, got.this.clear), (set, clear), "{option}");
        assert_eq!((got.recursive.set, got.recursive.clear), (0, 0), "{option}");
        assert!(got.names_flags, "{option}");
        assert!(got.data.is_empty(), "{option}");
    }
}

#[test]
fn flags_of_the_whole_tree() {
    for (option, set, clear) in [
        ("rro", attr::RDONLY, 0),
        ("rrw", 0, attr::RDONLY),
        ("rnosuid", attr::NOSUID, 0),
        ("rsuid", 0, attr::NOSUID),
        ("rnodev", attr::NODEV, 0),
        ("rdev", 0, attr::NODEV),
        ("rnoexec", attr::NOEXEC, 0),
        ("rexec", 0, attr::NOEXEC),
        ("rnodiratime", attr::NODIRATIME, 0),
        ("rdiratime", 0, attr::NODIRATIME),
        ("rnosymfollow", attr::NOSYMFOLLOW, 0),
        ("rsymfollow", 0, attr::NOSYMFOLLOW),
        ("rnoatime", attr::NOATIME, attr::ATIME),
        ("rstrictatime", attr::STRICTATIME, attr::ATIME),
        ("rrelatime", attr::RELATIME, attr::ATIME),
        ("ratime", attr::RELATIME, attr::ATIME),
        ("rnostrictatime", attr::RELATIME, attr::ATIME),
        ("rnorelatime", attr::RELATIME, attr::ATIME),
    ] {
        let got = parse(&[option]);
        assert_eq!((got.recursive.set, got.recursive.clear), (set, clear), "{option}");
        assert_eq!((got.this.set, got.this.clear), (0, 0), "{option}");
        assert!(!got.names_flags, "{option}: a recursive flag leaves the bind's own flags as they are");
    }
}

#[test]
fn flags_of_the_file_system() {
    for (option, name, is_on) in [
        ("sync", "sync", true),
        ("async", "sync", false),
        ("dirsync", "dirsync", true),
        ("mand", "mand", true),
        ("nomand", "mand", false),
        ("lazytime", "lazytime", true),
        ("nolazytime", "lazytime", false),
        ("iversion", "iversion", true),
        ("noiversion", "iversion", false),
    ] {
        assert_eq!(parse(&[option]).superblock, BTreeMap::from([(name, is_on)]), "{option}");
    }
}

#[test]
fn orders_to_the_runtime() {
    assert_eq!(parse(&["bind"]).bind, Some(false));
    assert_eq!(parse(&["rbind"]).bind, Some(true));
    assert_eq!(parse(&["rbind", "bind"]).bind, Some(true));
    assert!(parse(&["remount"]).remount);
    assert!(parse(&["tmpcopyup"]).tmpcopyup);
    assert_eq!(parse(&["idmap"]).idmap, Some(false));
    assert_eq!(parse(&["ridmap"]).idmap, Some(true));
    assert_eq!(parse(&["defaults"]), MountOptions::default());
    for (option, flags) in [
        ("private", MS_PRIVATE),
        ("rprivate", MS_PRIVATE | MS_REC),
        ("shared", MS_SHARED),
        ("rshared", MS_SHARED | MS_REC),
        ("slave", MS_SLAVE),
        ("rslave", MS_SLAVE | MS_REC),
        ("unbindable", MS_UNBINDABLE),
        ("runbindable", MS_UNBINDABLE | MS_REC),
    ] {
        assert_eq!(parse(&[option]).propagation, [flags], "{option}");
        assert_eq!(propagation(option), Some(flags));
    }
    assert_eq!(parse(&["rslave", "shared"]).propagation, [MS_SLAVE | MS_REC, MS_SHARED]);
    assert_eq!(propagation("ro"), None);
}

#[test]
fn the_later_of_two_wins() {
    for (options, set, clear) in [
        (&["ro", "rw"][..], 0, attr::RDONLY),
        (&["rw", "ro"], attr::RDONLY, 0),
        (&["nosuid", "suid", "nosuid"], attr::NOSUID, 0),
        (&["noatime", "strictatime"], attr::STRICTATIME, attr::ATIME),
        (&["strictatime", "noatime"], attr::NOATIME, attr::ATIME),
        (&["strictatime", "atime"], attr::STRICTATIME, attr::ATIME),
        (&["noatime", "atime"], attr::RELATIME, attr::ATIME),
        (&["relatime", "norelatime"], 0, 0),
    ] {
        let got = parse(options).this;
        assert_eq!((got.set, got.clear), (set, clear), "{options:?}");
    }
    assert_eq!(parse(&["sync", "async"]).superblock_set().count(), 0);
}

#[test]
fn the_rest_is_for_the_file_system() {
    let data = |options: &[&str]| parse(options).data.into_iter().map(|(k, v)| (k, v.unwrap_or("-".into()))).collect::<Vec<_>>();
    let pair = |k: &str, v: &str| (k.to_string(), v.to_string());
    assert_eq!(data(&["mode=755,size=64k", "newinstance", "acl"]), [pair("mode", "755"), pair("size", "64k"), pair("newinstance", "-"), pair("acl", "-")]);
    assert_eq!(data(&[r"lowerdir=/a\,b:/c,upperdir=/u"]), [pair("lowerdir", r"/a\,b:/c"), pair("upperdir", "/u")]);
    assert_eq!(data(&[r#"context="u:r:t:s0:c1,c2",size=1"#]), [pair("context", "u:r:t:s0:c1,c2"), pair("size", "1")]);
    assert_eq!(data(&["RO"]), [pair("RO", "-")]);
    assert_eq!(data(&["opt=a=b", ""]), [pair("opt", "a=b")]);
}
