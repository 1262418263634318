//! Git LFS pointers: the small texts that stand where `git clone` without LFS leaves a large file.

use std::path::Path;

use crate::error::{Error, error};

/// What the first line of a pointer begins with (the specification: `version` comes first, with the
/// address of the format).
const BEGINS: &[u8] = b"version https://git-lfs.github.com/spec/";
/// No pointer is larger.
const LARGEST: usize = 1024;

/// Whether a file's bytes, or the first 1024 of a longer file and one more, are a pointer.
pub fn is_pointer(bytes: &[u8]) -> bool {
    bytes.len() <= LARGEST && bytes.starts_with(BEGINS)
}

/// The error for a pointer where a file should be (class data).
pub fn pointer_error(path: &Path) -> Error {
    error!(
        Data,
        "`{}` is a Git LFS pointer, not the file itself: it says where the content is kept",
        path.display();
        hint: "fetch the content with `git lfs pull` in that repository, or download the file again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Class;

    #[test]
    fn pointers_are_told_from_files() {
        let pointer =
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
        assert!(is_pointer(pointer));
        for other in [
            &b""[..],
            b"{\"text\": \"version https://git-lfs.github.com/spec/v1\"}",
            b"version 1",
            &pointer[..20],
        ] {
            assert!(!is_pointer(other));
        }
        assert!(!is_pointer(&[&pointer[..], &[b'x'; 1024]].concat()));
    }

    #[test]
    fn the_error_says_what_it_is() {
        let error = pointer_error(Path::new("model.safetensors"));
        assert_eq!(error.class, Class::Data);
        assert!(error.message.starts_with("`model.safetensors` is a Git LFS pointer"));
        assert!(error.hint.unwrap().contains("git lfs pull"));
    }
}
