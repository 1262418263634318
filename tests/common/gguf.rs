//! A writer of small GGUF files.

/// A metadata value to write.
pub enum Meta<'a> {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(&'a str),
    Texts(Vec<&'a str>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

/// A tensor to write: name, dimensions as the file has them (innermost first), type, bytes.
pub type Tensor<'a> = (&'a str, Vec<u64>, u32, Vec<u8>);

/// A GGUF file, version 3.
pub fn gguf(metadata: &[(&str, Meta)], tensors: &[Tensor]) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }
    fn array(out: &mut Vec<u8>, kind: u32, count: usize) {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    }
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut out, key);
        match value {
            Meta::U32(x) => {
                out.extend(4u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Meta::F32(x) => {
                out.extend(6u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Meta::Bool(x) => {
                out.extend(7u32.to_le_bytes());
                out.push((*x).into());
            }
            Meta::Text(x) => {
                out.extend(8u32.to_le_bytes());
                text(&mut out, x);
            }
            Meta::Texts(x) => {
                array(&mut out, 8, x.len());
                x.iter().for_each(|x| text(&mut out, x));
            }
            Meta::I32s(x) => {
                array(&mut out, 5, x.len());
                x.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Meta::F32s(x) => {
                array(&mut out, 6, x.len());
                x.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
        }
    }
    let mut offset = 0;
    for (name, dimensions, kind, bytes) in tensors {
        text(&mut out, name);
        out.extend((dimensions.len() as u32).to_le_bytes());
        dimensions.iter().for_each(|dimension| out.extend(dimension.to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset = (offset + bytes.len()).next_multiple_of(32);
    }
    for (_, _, _, bytes) in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(bytes);
    }
    out
}
