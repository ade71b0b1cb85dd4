//! The kernel takes our programs and they do what the interpreter says. Needs no root: NO_NEW_PRIVS is set first.

use dhow::seccomp::interp::{self, Data};
use dhow::seccomp::{Arch, Compiled, FILTER_FLAG_NEW_LISTENER, compile, names};
use dhow::spec::{Seccomp, Syscall, SyscallArg};
use std::os::unix::process::CommandExt;
use std::process::Command;

fn shipped(name: &str) -> Seccomp {
    let path = format!("{}/seccomp-profiles/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Install `compiled` on this thread: the listener's fd, 0, or minus errno. Async-signal-safe.
fn install(compiled: &Compiled) -> i32 {
    let program = libc::sock_fprog { len: compiled.program.len() as u16, filter: compiled.program.as_ptr() as *mut libc::sock_filter };
    let listener = if compiled.notify { FILTER_FLAG_NEW_LISTENER } else { 0 };
    // SAFETY: prctl and seccomp take plain numbers and a pointer to `program`, which lives through the call and
    // whose `filter` points to `len` instructions laid out as `struct sock_filter` (repr(C)); both only read.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let flags = libc::c_ulong::from(compiled.flags | listener);
        let fd = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &program);
        if fd < 0 { -*libc::__errno_location() } else { fd as i32 }
    }
}

/// Run `body` in a forked child; its answer is the child's exit status, or 128 + the signal that killed it.
fn in_child(body: impl FnOnce() -> u8) -> i32 {
    // SAFETY: the child only runs `body`, which makes raw system calls and allocates nothing, and _exits.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let status = body();
        // SAFETY: ends this process; takes a number.
        unsafe { libc::_exit(status.into()) };
    }
    let mut status = 0;
    // SAFETY: `status` outlives the call; `pid` is our child.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    }
}

/// Make a system call: its errno, 0 if it succeeded.
fn errno_of(nr: i64, args: [i64; 3]) -> i32 {
    // SAFETY: the tests call only what takes numbers, or pointers that are null and answered with an error.
    unsafe {
        match libc::syscall(nr, args[0], args[1], args[2]) {
            -1 => *libc::__errno_location(),
            _ => 0,
        }
    }
}

fn rule(name: &str, action: &str, errno: Option<u32>, args: &[(u32, u64, u64, &str)]) -> Syscall {
    let arg = |&(index, value, value_two, op): &(u32, u64, u64, &str)| SyscallArg { index, value, value_two, op: op.into() };
    Syscall { names: vec![name.into()], action: action.into(), errno_ret: errno, args: args.iter().map(arg).collect() }
}

fn profile(default: &str, syscalls: Vec<Syscall>) -> Seccomp {
    Seccomp { default_action: default.into(), syscalls, ..Seccomp::default() }
}

#[test]
fn errno_and_arguments() {
    let eq = "SCMP_CMP_EQ";
    let profile = profile(
        "SCMP_ACT_ALLOW",
        vec![
            rule("getpriority", "SCMP_ACT_ERRNO", Some(77), &[(1, 0x1_0000_0007, 0, "SCMP_CMP_GE")]),
            rule("getpriority", "SCMP_ACT_ERRNO", Some(78), &[(1, 5, 0, eq)]),
            rule("uselib", "SCMP_ACT_ERRNO", Some(79), &[]),
        ],
    );
    let compiled = compile(&profile, Arch::NATIVE).unwrap();
    let status = in_child(|| {
        if install(&compiled) != 0 {
            return 100;
        }
        // 0: the filter lets it through, whatever the kernel then says of that process.
        let cases = [(5, 78), (6, 0), (0x1_0000_0005, 0), (0x1_0000_0006, 0), (0x1_0000_0007, 77), (-1, 77)];
        for (n, (who, expected)) in cases.into_iter().enumerate() {
            let got = errno_of(libc::SYS_getpriority, [0, who, 0]);
            let filtered = if matches!(got, 77 | 78) { got } else { 0 };
            if filtered != expected {
                return 1 + n as u8;
            }
        }
        0
    });
    assert_eq!(status, 0);
}

#[test]
fn kill_and_trap() {
    for (action, signal) in [("SCMP_ACT_KILL_PROCESS", libc::SIGSYS), ("SCMP_ACT_KILL", libc::SIGSYS), ("SCMP_ACT_TRAP", libc::SIGSYS)] {
        let profile = profile("SCMP_ACT_ALLOW", vec![rule("getppid", action, None, &[])]);
        let compiled = compile(&profile, Arch::NATIVE).unwrap();
        let status = in_child(|| {
            if install(&compiled) != 0 {
                return 100;
            }
            errno_of(libc::SYS_getppid, [0; 3]) as u8
        });
        assert_eq!(status, 128 + signal, "{action}");
    }
}

#[test]
fn notify_gives_a_listener() {
    let mut profile = profile("SCMP_ACT_ALLOW", vec![rule("uselib", "SCMP_ACT_NOTIFY", None, &[])]);
    profile.listener_path = "/run/listener".into();
    profile.flags = Some(vec!["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV".into()]);
    let compiled = compile(&profile, Arch::NATIVE).unwrap();
    assert!(compiled.notify);
    let status = in_child(|| match install(&compiled) {
        fd if fd > 2 => 0,
        other => other.unsigned_abs() as u8,
    });
    assert_eq!(status, 0);
}

/// Calls under the default profile: the kernel and the interpreter agree for each number, as far as it can be called
/// without harm, that is, where the filter answers with an errno.
#[test]
fn every_refused_number_is_refused() {
    let compiled = compile(&shipped("default.json"), Arch::NATIVE).unwrap();
    // uretprobe and uprobe: Linux 6.14 and 6.18 let them pass whatever the filter says.
    let refused: Vec<(u32, u32)> = (0..700)
        .filter(|nr| !matches!(nr, 335 | 336))
        .filter_map(|nr| {
            let data = Data { nr, arch: Arch::NATIVE.audit(), args: [0; 6] };
            match interp::run(&compiled.program, &data).unwrap() {
                value if value & 0xffff_0000 == 0x5_0000 => Some((nr, value & 0xffff)),
                _ => None,
            }
        })
        .collect();
    assert!(refused.len() > 100);
    let status = in_child(|| {
        if install(&compiled) != 0 {
            return 100;
        }
        let mut wrong = 0;
        for &(nr, errno) in &refused {
            wrong += u8::from(errno_of(nr.into(), [0; 3]) != errno as i32);
        }
        wrong
    });
    assert_eq!(status, 0);
}

/// `program` under the strict profile: whether it succeeds, and what it prints.
fn strictly(program: &str, args: &[&str]) -> Option<String> {
    let compiled = compile(&shipped("strict.json"), Arch::NATIVE).unwrap();
    let mut command = Command::new(program);
    command.args(args);
    // SAFETY: between fork and exec `install` makes two system calls, nothing else.
    unsafe {
        command.pre_exec(move || match install(&compiled) {
            0 => Ok(()),
            error => Err(std::io::Error::from_raw_os_error(-error)),
        });
    }
    let output = match command.output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: no {program}");
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn strict_runs_busybox() {
    let script = "cd /tmp; d=$(mktemp -d); echo one > $d/a; cp $d/a $d/b; ls $d | wc -l; cat $d/b | sed s/one/two/; \
                  sleep 0; rm -r $d; (exit 3); echo $?; busybox id -u >/dev/null && busybox ps >/dev/null && echo end";
    if let Some(out) = strictly("busybox", &["sh", "-c", script]) {
        assert_eq!(out, "2\ntwo\n3\nend\n");
    }
}

#[test]
fn strict_runs_python() {
    let script = "import threading, subprocess, socket, tempfile, multiprocessing as m, os\n\
        r = []; t = threading.Thread(target=lambda: r.append(1)); t.start(); t.join()\n\
        a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'\n\
        s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()\n\
        p = subprocess.run(['true']); assert p.returncode == 0\n\
        f = tempfile.NamedTemporaryFile(); f.write(b'y'); f.flush()\n\
        q = m.get_context('fork').Pool(2); assert q.map(abs, [-1]) == [1]; q.close()\n\
        try:\n    os.unshare(os.CLONE_NEWUSER); print('unshared')\n\
        except (PermissionError, AttributeError): print('ok')\n";
    if let Some(out) = strictly("python3", &["-c", script]) {
        assert_eq!(out, "ok\n");
    }
}

#[test]
fn names_of_refused_calls_are_known() {
    // The strict profile leaves mount(2) out: the child sees EPERM, not ENOSYS.
    let compiled = compile(&shipped("strict.json"), Arch::NATIVE).unwrap();
    let mount = names::find("mount").unwrap().number(Arch::NATIVE).unwrap();
    let status = in_child(|| match install(&compiled) {
        0 => errno_of(mount.into(), [0; 3]) as u8,
        _ => 100,
    });
    assert_eq!(status, libc::EPERM);
}
