//! What stands at the beginning of a safetensors file, for who writes one piece by piece.

use serde_json::{Map, Value, json};

/// The name of a checkpoint in one file.
pub const SINGLE: &str = "model.safetensors";

/// The name of the file that says which shard holds which tensor.
pub const INDEX: &str = "model.safetensors.index.json";

/// Tensors begin at multiples of so many bytes.
const ALIGNMENT: usize = 8;

/// All bytes in front of the tensors, which follow each other in this order: names, types as safetensors files
/// name them, shapes and sizes in bytes. Files say that they are of MLX, as mlx-lm's do.
pub fn header<'a>(
    tensors: impl IntoIterator<Item = (&'a str, &'a str, &'a [usize], usize)>,
) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("__metadata__".to_owned(), json!({"format": "mlx"}));
    let mut at = 0;
    for (name, dtype, shape, bytes) in tensors {
        let value = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
        fields.insert(name.to_owned(), value);
        at += bytes;
    }
    let mut text = Value::Object(fields).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    let mut header = (text.len() as u64).to_le_bytes().to_vec();
    header.extend(text);
    header
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    #[test]
    fn a_header_and_the_tensors_make_a_file() {
        let mut file = header([("b", "U32", &[2, 1][..], 8), ("a", "BF16", &[3], 6)]);
        assert!(file.len().is_multiple_of(ALIGNMENT));
        file.extend(0..14);
        let read = SafeTensors::deserialize(&file).unwrap();
        assert_eq!(read.tensor("b").unwrap().shape(), [2, 1]);
        assert_eq!(read.tensor("a").unwrap().data(), [8, 9, 10, 11, 12, 13]);
    }
}
