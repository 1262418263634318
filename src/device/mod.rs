//! Where the numbers live (CPU or CUDA), in which storage type, and with how many threads.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{DType, Device};

use crate::error::{Error, bail};
use crate::sys;

/// A device that was asked for.
pub struct Selected {
    pub device: Device,
    /// Why it is the CPU, where a program with CUDA was asked for `auto` and can use no GPU.
    pub note: Option<String>,
}

/// Turns `auto`, `cpu`, `cuda` or `cuda:N` into a device: `auto` is the first GPU, or else the CPU.
///
/// Errors: a name that is not known, a GPU asked of a program without CUDA or that is not there
/// (class usage); one that cannot be used (class run).
pub fn select(name: &str) -> anyhow::Result<Selected> {
    let cpu = |note| Ok(Selected { device: Device::Cpu, note });
    match name {
        "cpu" => cpu(None),
        "auto" if !cfg!(feature = "cuda") => cpu(None),
        "auto" => match open(name, 0) {
            Ok(device) => Ok(Selected { device, note: None }),
            Err(error) => cpu(Some(format!("computing on the CPU: {}", error.message))),
        },
        _ => {
            let Some(index) = index_of(name) else {
                bail!(Usage, "unknown device `{name}`: one of auto, cpu, cuda, cuda:N")
            };
            Ok(Selected { device: open(name, index)?, note: None })
        }
    }
}

#[cfg(feature = "cuda")]
fn open(_: &str, index: usize) -> Result<Device, Error> {
    cuda::open(index)
}

#[cfg(not(feature = "cuda"))]
fn open(name: &str, _: usize) -> Result<Device, Error> {
    Err(crate::error::error!(
        Usage,
        "device `{name}` asked for, but this xgbrun was built without CUDA";
        hint: "`cargo build --release --features cuda` builds it with, see docs/cuda.md"
    ))
}

/// Turns `auto`, `f32`, `bf16` or `f16` into the storage type of weights: auto is f32 on the CPU,
/// bf16 on CUDA.
pub fn storage_dtype(name: &str, device: &Device) -> anyhow::Result<DType> {
    storage_dtype_on(name, !device.is_cpu())
}

/// The same of a device that need not be there.
pub fn storage_dtype_on(name: &str, gpu: bool) -> anyhow::Result<DType> {
    Ok(match name {
        "auto" if !gpu => DType::F32,
        "auto" | "bf16" => DType::BF16,
        "f32" => DType::F32,
        "f16" => DType::F16,
        _ => bail!(Usage, "unknown dtype `{name}`: one of auto, f32, bf16, f16"),
    })
}

/// The type in which products are computed over weights of type `storage`: the same, but f32 for
/// 16-bit weights on the CPU, and for those in f16, whose range activations leave, everywhere.
pub fn compute_dtype(storage: DType, device: &Device) -> DType {
    compute_dtype_on(storage, !device.is_cpu())
}

/// The same of a device that need not be there.
pub fn compute_dtype_on(storage: DType, gpu: bool) -> DType {
    match storage {
        DType::BF16 if !gpu => DType::F32,
        DType::F16 => DType::F32,
        other => other,
    }
}

/// Sizes the thread pool, once, before any work; `None` takes the machine's cores.
pub fn set_threads(threads: Option<usize>) -> anyhow::Result<usize> {
    let threads =
        threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    // A pool that is already there (a second run in one process) keeps its size.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    let threads = rayon::current_num_threads();
    // candle asks for the number at every product, and counts the machine's cores in /proc where
    // the variable is not there.
    // SAFETY: Rust's readers of the environment wait for each other, and no C code that is linked
    // in reads it meanwhile.
    unsafe { std::env::set_var("RAYON_NUM_THREADS", threads.to_string()) };
    Ok(threads)
}

/// Lets freed memory stay with the process, in one heap for all threads: a training step frees and
/// asks again for the same hundreds of megabytes, and pages that come fresh from the kernel cost a
/// tenth of its time. glibc only.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    for (option, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 1 << 30),
        (libc::M_TRIM_THRESHOLD, libc::c_int::MAX),
    ] {
        // SAFETY: `mallopt` takes two integers; an option it refuses changes nothing.
        unsafe { libc::mallopt(option, value) };
    }
}

/// A short name for run records: `cpu` or `cuda:N`.
pub fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
        candle_core::DeviceLocation::Cpu => "cpu".into(),
    }
}

/// A GPU's name and the version of CUDA that its driver is for.
pub fn card(device: &Device) -> Option<String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => Some(cuda::card(device)),
        _ => None,
    }
}

/// Memory that a run may still take where `device` has its numbers; `None` where nobody says.
pub fn free_bytes(device: &Device) -> Option<usize> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::free_bytes(device),
        Device::Cpu => sys::free_bytes(),
        _ => None,
    }
}

/// Whether a device's name is one of a GPU, which need not be there.
pub fn names_gpu(name: &str) -> bool {
    index_of(name).is_some()
}

/// N of `cuda:N`, and 0 of `cuda`.
fn index_of(name: &str) -> Option<usize> {
    match name.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|index| index.parse().ok()),
        None => None,
    }
}

/// The family of CPU kernels that this machine runs, as pulp dispatches them.
pub fn kernels() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if pulp::x86::V4::try_new().is_some() {
            return "x86-v4";
        }
        if pulp::x86::V3::try_new().is_some() {
            return "x86-v3";
        }
    }
    if cfg!(target_arch = "aarch64") { "neon" } else { "scalar" }
}
