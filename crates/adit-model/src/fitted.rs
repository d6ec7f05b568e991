//! Lists of documents that are kept: read with no more memory than their items take.

use serde::{Deserialize, Deserializer};

/// Reads a list. (Serde's own takes memory for four items where there is one, since JSON does not say how many follow.)
pub(crate) fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(input: D) -> Result<Vec<T>, D::Error> {
    let mut list = Vec::deserialize(input)?;
    list.shrink_to_fit();
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_memory_is_left_over() {
        let mut input = serde_json::Deserializer::from_str(r#"["one"]"#);
        let list: Vec<String> = list(&mut input).unwrap();
        assert_eq!((list.len(), list.capacity()), (1, 1));
    }
}
