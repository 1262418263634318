//! What concerns a GPU, as far as it can be tested without one. The tests of programs with CUDA
//! need the toolkit and the stub of the driver that tests/gpu/toolkit.sh makes:
//!
//! ```sh
//! . tests/gpu/toolkit.sh && cargo test --release --features cuda --test gpu
//! ```

use std::path::{Path, PathBuf};

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, out),
            false => out.push(path),
        }
    }
}

/// candle's products over blocks are machine code for one generation of GPUs; weights in blocks are
/// decoded on the CPU, and go to the device as numbers.
#[test]
fn nothing_multiplies_weights_in_blocks() {
    let mut files = vec![];
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 200, "{} files", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(!text.contains("QMatMul"), "{}", file.display());
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::path::Path;
    use std::process::Command;

    const PROGRAM: &str = env!("CARGO_BIN_EXE_xgbrun");

    /// Runs the program over the stub of the driver, which answers as `stub` says.
    fn with_stub(stub: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let toolkit = std::env::var("CUDA_HOME").expect("`. tests/gpu/toolkit.sh` comes first");
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(PROGRAM)
            .args(arguments)
            .current_dir(folder.path())
            .env("LD_LIBRARY_PATH", format!("{toolkit}/stub:{toolkit}/lib"))
            .env("CUDA_STUB", stub)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The recipe that comes with the program, a round of it.
    fn recipe() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/xgblora.rhai");
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn kernels_are_for_capability_8_0_and_every_later_one() {
        let program = std::fs::read(PROGRAM).unwrap();
        let mark = b".target sm_";
        let targets: Vec<String> = program
            .windows(mark.len() + 3)
            .filter(|window| window.starts_with(mark))
            .map(|window| String::from_utf8_lossy(&window[mark.len()..]).into_owned())
            .collect();
        assert!(targets.len() >= 8, "{targets:?}");
        // With a letter behind, as in `sm_90a`, they would be for that one alone.
        assert!(targets.iter().all(|target| target == "80\n"), "{targets:?}");
    }

    #[test]
    fn what_a_gpu_lacks_is_said() {
        for (stub, device, code, want) in [
            ("", "cuda", 1, "the NVIDIA driver does not start (CUDA error 999)"),
            ("init=100", "cuda", 1, "the driver finds no NVIDIA GPU (CUDA error 100)"),
            ("init=35", "cuda", 1, "the NVIDIA driver is too old (CUDA error 35)"),
            ("init=803", "cuda", 1, "the NVIDIA driver is too old (CUDA error 803)"),
            ("init=0 driver=12040", "cuda", 1, "the NVIDIA driver is for CUDA 12.4, and this"),
            ("init=0 count=0", "cuda", 1, "the driver finds no NVIDIA GPU"),
            ("init=0 count=1", "cuda:1", 2, "there is no GPU `cuda:1`: this machine has `cuda:0`"),
            ("init=0 count=2", "cuda:7", 2, "this machine has `cuda:0` to `cuda:1`"),
            (
                "init=0 major=7 minor=5",
                "cuda",
                1,
                "`cuda:0`, a stub, has the compute capability 7.5",
            ),
            ("init=0 major=12 context=2", "cuda", 1, "the GPU `cuda:0` has no memory left"),
            ("init=0 context=719", "cuda:0", 1, "the GPU `cuda:0` cannot be opened: "),
            ("init=0", "gpu", 2, "unknown device `gpu`: one of auto, cpu, cuda, cuda:N"),
            ("init=0", "cuda:x", 2, "unknown device `cuda:x`"),
        ] {
            let (found, _, said) = with_stub(stub, &[&recipe(), "--device", device, "--out", "o"]);
            assert!(said.starts_with("error: ") && said.contains(want), "{stub}: {said}");
            assert_eq!(found, Some(code), "{stub}: {said}");
            assert!(said.lines().count() <= 2, "{stub}: {said}");
        }
    }

    #[test]
    fn without_a_gpu_auto_is_the_cpu_and_says_so() {
        let arguments = ["--out", "o", "-p", "quick=true"];
        let (code, _, said) =
            with_stub("init=100", &[&[recipe().as_str()], &arguments[..]].concat());
        assert_eq!(code, Some(0), "{said}");
        let note = "computing on the CPU: the driver finds no NVIDIA GPU (CUDA error 100)";
        assert!(said.starts_with(note), "{said}");
    }

    /// The script for a borrowed machine, from a bare copy of what it needs.
    #[test]
    fn the_check_of_a_gpu_is_rehearsed() {
        let toolkit = std::env::var("CUDA_HOME").expect("`. tests/gpu/toolkit.sh` comes first");
        let home = tempfile::tempdir().unwrap();
        let gpu = home.path().join("tests/gpu");
        std::fs::create_dir_all(&gpu).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gpu/check.sh");
        std::fs::copy(script, gpu.join("check.sh")).unwrap();
        let libraries = format!("{toolkit}/stub:{toolkit}/lib");
        let check = |device: &str, libraries: &str| {
            let output = Command::new("bash")
                .args(["tests/gpu/check.sh", "found"])
                .current_dir(home.path())
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("XGBRUN", PROGRAM)
                .env("XGBRUN_DEVICE", device)
                .env("LD_LIBRARY_PATH", libraries)
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            let kept = std::fs::read_to_string(home.path().join("found/gpu-check.txt")).unwrap();
            assert!(text.lines().all(|line| kept.contains(line)), "{text}\n{kept}");
            (output.status.code(), text)
        };
        // The checks themselves, on the one device that there is.
        let (code, text) = check("cpu", &libraries);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("ok ")).count(), 9, "{text}");
        assert!(text.contains("library    libcublas.so.13 => ") && text.contains("\n0 failed, "));
        // Each fails by itself where there is no GPU.
        let (code, text) = check("cuda", &libraries);
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains("error: the NVIDIA driver does not start (CUDA error 999)"),
            "{text}"
        );
        assert!(text.contains("\n9 failed, "), "{text}");
        // Without the libraries it does not start.
        let (code, text) = check("cuda", "");
        assert_eq!(
            (code, text.contains("\nthe program does not start, ")),
            (Some(1), true),
            "{text}"
        );
        assert!(text.contains(" => not found"), "{text}");
    }
}
