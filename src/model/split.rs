//! Text cut into pieces before byte-level BPE, which merges nothing across a cut.

use serde_json::{Value as Json, json};

/// How text is cut, in the words of `tokenizer.json`, by the name GGUF has for the rules; `None` if they are not known here.
pub(crate) fn split(rules: &str) -> Option<Json> {
    const LLAMA: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": regex});
    let pattern = match rules {
        "llama-bpe" => LLAMA,
        "qwen2" => QWEN,
        "default" | "gpt-2" => return Some(bytes(true)),
        _ => return None,
    };
    let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    Some(json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]}))
}
