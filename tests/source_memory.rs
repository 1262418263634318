//! Reading a model holds its weights once. Alone in its file, because it measures the whole
//! process.

#[cfg(target_os = "linux")]
#[test]
fn weights_are_held_once() {
    use std::io::{BufWriter, Write};

    use candle_core::{DType, Device, Tensor};
    use xgbrun::source::{Safetensors, TensorSource};

    const COUNT: usize = 16 << 20;
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let entry = |name: &str, at: usize| {
        format!(
            r#""{name}":{{"dtype":"F32","shape":[{COUNT}],"data_offsets":[{},{}]}}"#,
            at * COUNT * 4,
            (at + 1) * COUNT * 4
        )
    };
    let header = format!("{{{},{}}}", entry("a", 0), entry("b", 1));
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for i in 0..2 * COUNT {
        file.write_all(&(i as f32).to_le_bytes()).unwrap();
    }
    file.into_inner().unwrap();

    let source = Safetensors::open(&[path]).unwrap();
    let before = peak();
    let tensors: Vec<Tensor> = source
        .names()
        .into_iter()
        .map(|name| source.load(name, DType::F32, &Device::Cpu).unwrap())
        .collect();
    let (grown, held) = (peak() - before, 2 * COUNT * 4);
    assert_eq!(tensors.len(), 2);
    assert!(
        grown > held * 9 / 10 && grown < held * 13 / 10,
        "{held} bytes of weights took {grown}"
    );
}
