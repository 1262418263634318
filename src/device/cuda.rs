//! Whether a GPU can be used: asked of the driver before candle opens it, so that what is missing
//! has a name.

use std::ffi::c_int;

use candle_core::Device;
use candle_core::cuda_backend::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::{result, sys};

use crate::error::{Error, error, is_out_of_memory};

/// The version of CUDA that the driver's functions were taken from, as major · 1000 + minor · 10.
const CUDA: c_int = sys::CUDA_VERSION as c_int;

/// The compute capability that kernels are compiled for, as major · 10 + minor.
fn compiled_for() -> c_int {
    option_env!("CUDA_COMPUTE_CAP").and_then(|cap| cap.parse().ok()).unwrap_or(80)
}

/// Opens GPU `index` with one stream for all threads. Errors: no driver that starts, one that is
/// too old, no GPU, one that the kernels are not for, no memory (class run); no GPU of that index
/// (class usage).
pub fn open(index: usize) -> Result<Device, Error> {
    // Sums are formed in one order: cuBLAS takes this when it is opened.
    // SAFETY: as in `super::set_threads`; nothing of CUDA has been started yet.
    unsafe { std::env::set_var("CUBLAS_WORKSPACE_CONFIG", ":4096:8") };
    driver()?;
    let count = result::device::get_count().map_err(|e| failed("count the GPUs", e.0))?;
    if index >= usize::try_from(count).unwrap_or(0) {
        return Err(absent(index, count));
    }
    suits(index)?;
    // candle's own choice is a stream for each thread, which do not wait for each other.
    let device = Device::new_cuda_with_stream(index).map_err(|e| unopened(index, &e))?;
    if let Device::Cuda(cuda) = &device {
        // SAFETY: all that is done on the device goes through its one stream, in order; events
        // between streams have nothing to order.
        unsafe { cuda.disable_event_tracking() };
    }
    Ok(device)
}

/// Its name and the version of CUDA that the driver is for.
pub fn card(device: &CudaDevice) -> String {
    let name = device.cuda_stream().context().name().unwrap_or_else(|_| "a GPU".into());
    format!("{name}, CUDA {}", version().map_or_else(|_| "unknown".into(), shown))
}

/// Memory of the device that nobody holds.
pub fn free_bytes(device: &CudaDevice) -> Option<usize> {
    device.cuda_stream().context().mem_get_info().ok().map(|(free, _)| free)
}

fn version() -> Result<c_int, Error> {
    let mut version = 0;
    // SAFETY: the driver writes one integer.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| failed("ask for the driver's version", e.0))?;
    Ok(version)
}

/// Starts the driver. Errors: it does not start, or is older than the program.
fn driver() -> Result<(), Error> {
    result::init().map_err(|e| unstarted(e.0))?;
    let version = version()?;
    if version < CUDA { Err(old(&format!("for CUDA {}", shown(version)))) } else { Ok(()) }
}

/// Errors where the GPU's compute capability is below that of the kernels.
fn suits(index: usize) -> Result<(), Error> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    let asked = |e: result::DriverError| failed("ask for the GPU's capability", e.0);
    let device = result::device::get(index as c_int).map_err(asked)?;
    let attribute = |which| {
        // SAFETY: the device was just given by the driver.
        unsafe { result::device::get_attribute(device, which) }.map_err(asked)
    };
    let (found, wanted) = (attribute(MAJOR)? * 10 + attribute(MINOR)?, compiled_for());
    if found >= wanted {
        return Ok(());
    }
    let name = result::device::get_name(device).unwrap_or_else(|_| "a GPU".into());
    let of = |capability: c_int| format!("{}.{}", capability / 10, capability % 10);
    Err(error!(
        Run,
        "`cuda:{index}`, {name}, has the compute capability {}, and the kernels are for {} or more",
        of(found),
        of(wanted);
        hint: "`--device cpu` computes without a GPU"
    ))
}

fn shown(version: c_int) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn unstarted(code: sys::CUresult) -> Error {
    match code as u32 {
        34 | 35 | 803 => old(&format!("too old (CUDA error {})", code as u32)),
        100 => error!(
            Run,
            "the driver finds no NVIDIA GPU (CUDA error 100)";
            hint: "`nvidia-smi -L` lists the GPUs, CUDA_VISIBLE_DEVICES may hide them; \
                   `--device cpu` computes without one"
        ),
        code => error!(
            Run,
            "the NVIDIA driver does not start (CUDA error {code})";
            hint: "`nvidia-smi` may say more; `--device cpu` computes without a GPU"
        ),
    }
}

fn old(how: &str) -> Error {
    error!(
        Run,
        "the NVIDIA driver is {how}, and this xgbrun was built with CUDA {}",
        shown(CUDA);
        hint: "install a newer driver, or build with an older toolkit; `--device cpu` computes \
               without a GPU"
    )
}

fn absent(index: usize, count: c_int) -> Error {
    match count {
        ..=0 => error!(Run, "the driver finds no NVIDIA GPU"; hint: "`nvidia-smi -L` lists them"),
        1 => error!(Usage, "there is no GPU `cuda:{index}`: this machine has `cuda:0` alone"),
        _ => error!(
            Usage,
            "there is no GPU `cuda:{index}`: this machine has `cuda:0` to `cuda:{}`",
            count - 1
        ),
    }
}

fn failed(what: &str, code: sys::CUresult) -> Error {
    error!(Run, "the NVIDIA driver failed to {what} (CUDA error {})", code as u32)
}

fn unopened(index: usize, error: &candle_core::Error) -> Error {
    let said = plain(error);
    if is_out_of_memory(&said) {
        return error!(
            Run,
            "the GPU `cuda:{index}` has no memory left to begin with";
            hint: "`nvidia-smi` shows what holds it; `--device cpu` computes without a GPU"
        );
    }
    error!(
        Run,
        "the GPU `cuda:{index}` cannot be opened: {said}";
        hint: "`--device cpu` computes without a GPU"
    )
}

/// What an error of candle says, without the places in its code.
fn plain(error: &candle_core::Error) -> String {
    use candle_core::Error::{Context, WithBacktrace, WithPath};
    match error {
        WithBacktrace { inner, .. } | WithPath { inner, .. } | Context { inner, .. } => {
            plain(inner)
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn what_is_missing_has_a_name() {
        assert_eq!(shown(13_000), "13.0");
        assert_eq!(shown(12_040), "12.4");
        let one = absent(1, 1);
        assert_eq!((one.class, one.message.contains("`cuda:0` alone")), (Class::Usage, true));
        assert!(absent(7, 4).message.ends_with("`cuda:0` to `cuda:3`"));
        assert_eq!(absent(0, 0).class, Class::Run);
    }
}
