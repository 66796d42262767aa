//! One error type. Every message says what was expected, what was found, and what to do about it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The crate's result type: `Result<T>` is `std::result::Result<T, pellucid::Error>`.
///
/// ```
/// # use pellucid::prelude::*;
/// fn verdict(review: &str) -> Result<String> {
///     let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
///     Ok(bert.predict(&bert.read(review)?)?[0].0.clone())
/// }
/// assert_eq!(verdict("I absolutely loved the movie!")?, "positive");
/// # Ok::<(), pellucid::Error>(())
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, in words a learner can act on.
///
/// ```
/// # use pellucid::prelude::*;
/// let logits = Tensor::new(&[[1.0f64, 3.0]], &Device::Cpu)?;
/// let error = Target::Logit(2).of(&logits).unwrap_err();
/// assert!(matches!(error, Error::OutOfRange { index: 2, len: 2, .. }));
/// assert_eq!(error.to_string(), "target class 2 is out of range: there are 2, numbered from 0");
/// # Ok::<(), pellucid::Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output was computed without a differentiable path from the input.
    #[error(
        "the function's graph never reaches its input, so there is no gradient. Either f ignores its argument, or it goes \
         through one of candle's fused operations that have no backward: `softmax_last_dim`, `layer_norm`, `rms_norm`, \
         `rope`, `sdpa`, quantised matmul, or `detach`. Use pellucid's blocks, or their differentiable twins \
         (`softmax(x, D::Minus1)`, `layer_norm_slow`, `rms_norm_slow`, `rope_slow`), and confirm with `grad_check`"
    )]
    GraphCut,

    /// A value that must be finite is NaN or infinite.
    #[error(
        "{what} is not finite ({found} at position {position}). Look for a division by zero, a logarithm of zero, an \
         overflow in f16, or weights that are not what the model expects"
    )]
    NotFinite {
        /// Which value.
        what: String,
        /// NaN, inf or -inf.
        found: f64,
        /// Flat index of the first offender.
        position: usize,
    },

    /// A tensor has the wrong shape.
    #[error("{what} has shape {got}, expected {expected}")]
    Shape {
        /// Which tensor.
        what: String,
        /// The shape that was expected, in words.
        expected: String,
        /// The shape that was found.
        got: String,
    },

    /// An index beyond what there is.
    #[error("{what} {index} is out of range: there are {len}, numbered from 0{hint}")]
    OutOfRange {
        /// What is being indexed (target, token, layer, …).
        what: String,
        /// The index asked for.
        index: usize,
        /// How many there are.
        len: usize,
        /// What could have been meant, or empty.
        hint: String,
    },

    /// An argument that cannot be used as it stands.
    #[error("{0}")]
    Argument(String),

    /// The text given is not valid UTF-8.
    #[error(
        "the text is not valid UTF-8: byte {position} is 0x{byte:02x}. Re-save the file as UTF-8, or decode it first with \
         the encoding it was written in"
    )]
    BadUtf8 {
        /// Offset of the first bad byte.
        position: usize,
        /// The byte found there.
        byte: u8,
    },

    /// The text has nothing to explain.
    #[error(
        "the text is empty: after tokenisation there is nothing but special tokens, so there is nothing to explain"
    )]
    EmptyText,

    /// The text has more tokens than the model has positions.
    #[error(
        "the text has {tokens} tokens, but the model has {positions} positions. Shorten it, or explain it in pieces"
    )]
    TextTooLong {
        /// Tokens in the text, special ones included.
        tokens: usize,
        /// Positions the model was trained with.
        positions: usize,
    },

    /// A checkpoint's file cannot be used.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },

    /// The checkpoint is of a kind this reader does not know.
    #[error("{source_name} holds a `{found}` model, and this reader knows {known}")]
    Architecture {
        /// The name or folder that was asked for.
        source_name: String,
        /// `model_type` of its `config.json`.
        found: String,
        /// What can be read.
        known: String,
    },

    /// A model could not be found or fetched.
    #[error("{0}")]
    NotFound(String),

    /// A gradient computed across cells would be wrong: see [`crate::kernel`].
    #[error(
        "pellucid is linked statically into every cell of this notebook. candle numbers its tensors with a counter that each \
         cell then has for itself, numbers collide, and gradients across cells are silently wrong. Depend on the shared \
         library instead: make the first cell `:dep prelude = {{ path = \"prelude\" }}`, then `use prelude::*;`, and restart \
         the kernel"
    )]
    StaticallyLinked,

    /// candle's own error.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),

    /// JSON that cannot be read or written.
    #[error("JSON: {0}")]
    Json(#[from] serde_json::Error),

    /// The operating system said no.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn argument(message: impl Display) -> Self {
        Self::Argument(message.to_string())
    }

    pub(crate) fn shape(what: impl Display, expected: impl Display, got: &[usize]) -> Self {
        Self::Shape { what: what.to_string(), expected: expected.to_string(), got: format!("{got:?}") }
    }

    pub(crate) fn out_of_range(what: impl Display, index: usize, len: usize) -> Self {
        Self::OutOfRange { what: what.to_string(), index, len, hint: String::new() }
    }

    pub(crate) fn file(path: impl AsRef<Path>, problem: impl Display) -> Self {
        Self::File { path: path.as_ref().to_owned(), problem: problem.to_string() }
    }
}
