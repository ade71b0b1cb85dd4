//! How long it takes to compile, to read from the cache and to install; prints, and asserts only what must not get lost.
//! `cargo test --release --test seccomp_speed -- --nocapture`

use dhow::seccomp::{Arch, Compiled, compile};
use dhow::spec::Seccomp;
use dhow::stage::filter_cache::load_or_compile;
use std::time::Instant;

/// The shortest and the middle of 2000 runs, in microseconds.
fn time(mut run: impl FnMut()) -> (f64, f64) {
    let mut times: Vec<f64> = (0..2000)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[0], times[1000])
}

/// Install `compiled` in a forked child; nanoseconds, by way of a pipe.
fn load_time(compiled: &Compiled) -> f64 {
    let program = libc::sock_fprog { len: compiled.program.len() as u16, filter: compiled.program.as_ptr() as *mut libc::sock_filter };
    let mut best = f64::MAX;
    for _ in 0..100 {
        let mut fds = [0; 2];
        // SAFETY: the child makes raw system calls only, on memory that lives through them, and _exits; the parent
        // reads eight bytes into an array of eight.
        let nanoseconds = unsafe {
            assert_eq!(libc::pipe(fds.as_mut_ptr()), 0);
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                let start = Instant::now();
                let ret = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, compiled.flags, &program);
                let took = if ret == 0 { start.elapsed().as_nanos() as u64 } else { u64::MAX };
                libc::write(fds[1], (&raw const took).cast(), 8);
                libc::_exit(0);
            }
            let mut bytes = [0; 8];
            assert_eq!(libc::read(fds[0], bytes.as_mut_ptr().cast(), 8), 8);
            libc::waitpid(pid, std::ptr::null_mut(), 0);
            libc::close(fds[0]);
            libc::close(fds[1]);
            u64::from_ne_bytes(bytes)
        };
        assert_ne!(nanoseconds, u64::MAX);
        best = best.min(nanoseconds as f64 / 1e3);
    }
    best
}

#[test]
fn measure() {
    let root = std::env::temp_dir().join(format!("dhow-speed-{}", std::process::id()));
    for name in ["default.json", "strict.json"] {
        let path = format!("{}/seccomp-profiles/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(path).unwrap();
        let all: Seccomp = serde_json::from_slice(&text).unwrap();
        let mut one = all.clone();
        one.architectures.clear();
        for (what, profile) in [("as it is", &all), ("one architecture", &one)] {
            let compiled = compile(profile, Arch::NATIVE).unwrap();
            let compiling = time(|| drop(compile(profile, Arch::NATIVE)));
            load_or_compile(&root, profile, Arch::NATIVE).unwrap();
            let cached = time(|| drop(load_or_compile(&root, profile, Arch::NATIVE)));
            eprintln!(
                "{name} {what}: {} instructions; compile {:.1} µs (median {:.1}), from the cache {:.1} ({:.1}), install {:.1}",
                compiled.program.len(),
                compiling.0,
                compiling.1,
                cached.0,
                cached.1,
                load_time(&compiled),
            );
            assert!(compiled.program.len() < 1200);
        }
    }
    std::fs::remove_dir_all(root).unwrap();
}
