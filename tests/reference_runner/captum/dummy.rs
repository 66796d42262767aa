//! Captum's DummyLLM: one transformer layer that sees both ways, all of whose weights are the first numbers of one sequence.

use candle_nn::ops::softmax;
use pellucid::prelude::*;

use super::toys::relu;

/// The network, as the file describes it.
pub const DUMMY: &str = "DummyLLM(deterministic_weights=True) from tests/attr/test_llm_attr.py, eval mode: emb 256x10; one \
    nn.TransformerEncoderLayer(d_model=10,nhead=2,dim_feedforward=2048,relu,POST-norm,LayerNorm eps 1e-5 weight 1 bias 0, \
    NO causal mask); linear 10->256. Weights: every weight tensor is filled row-major from the SAME sequence u_k = \
    x_k/2^32, x_0=1, x_{k+1}=(16843009*x_k+3014898611) mod 2^32, first value uses x_1 \
    (captum/testing/helpers/basic.py::lcg/rand_like), cast to f32: emb.weight(256,10), self_attn.in_proj_weight(30,10; \
    q,k,v rows), out_proj(10,10), linear1(2048,10), linear2(10,2048), lm linear(256,10). Biases: attention/ff 0, lm linear \
    0.5. Tokenizer: split(' '); one-char token -> ord; '<sos>' -> 0; anything else (incl. empty string) -> 1; prompt \
    encoding prepends 0.";

const HEADS: usize = 2;

/// Its weights.
pub struct Dummy {
    words: Tensor,
    qkv: Tensor,
    out: Tensor,
    wide: Tensor,
    narrow: Tensor,
    vocabulary: Tensor,
}

impl Dummy {
    pub fn new(dtype: DType) -> Result<Self> {
        let weight = |rows, columns| weight(rows, columns, dtype);
        Ok(Self {
            words: weight(256, 10)?,
            qkv: weight(30, 10)?,
            out: weight(10, 10)?,
            wide: weight(2048, 10)?,
            narrow: weight(10, 2048)?,
            vocabulary: weight(256, 10)?,
        })
    }

    /// Token ids of a text that continues another.
    pub fn ids(text: &str) -> Vec<u32> {
        let id = |word: &str| match word.chars().collect::<Vec<_>>()[..] {
            [one] => one.into(),
            _ if word == "<sos>" => 0,
            _ => 1,
        };
        text.split(' ').map(id).collect()
    }

    /// Token ids of a prompt.
    pub fn prompt(text: &str) -> Vec<u32> {
        [vec![0], Self::ids(text)].concat()
    }

    /// The embeddings of token ids, `(t,c)`.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        Ok(self.words.index_select(&Tensor::new(ids, self.words.device())?, 0)?)
    }

    /// Prompts `(n,t,c)` → ln p of each token that follows, given those before, `(n,o)`. Every token sees those after it,
    /// so each takes a forward of its own.
    pub fn log_probs(&self, x: &Tensor, said: &[u32]) -> Result<Tensor> {
        let one = |(j, &id): (usize, &u32)| {
            let x = if j == 0 { x.clone() } else { self.followed(x, &said[..j])? };
            Target::LogProbability(id as usize).of(&self.logits(&x)?)
        };
        Ok(Tensor::stack(&said.iter().enumerate().map(one).collect::<Result<Vec<_>>>()?, 1)?)
    }

    fn followed(&self, x: &Tensor, ids: &[u32]) -> Result<Tensor> {
        let (n, _, c) = x.dims3()?;
        let rest = self.embed(ids)?.unsqueeze(0)?.broadcast_as((n, ids.len(), c))?.contiguous()?;
        Ok(Tensor::cat(&[x, &rest], 1)?)
    }

    /// `(n,t,c)` → the next token's logits, `(n,v)`.
    fn logits(&self, x: &Tensor) -> Result<Tensor> {
        let x = norm(&(x + self.attention(x)?)?)?;
        let wide = relu(&linear(&x, &self.wide)?)?;
        let x = norm(&(&x + linear(&wide, &self.narrow)?)?)?;
        Ok((linear(&x.narrow(1, x.dims()[1] - 1, 1)?, &self.vocabulary)?.squeeze(1)? + 0.5)?)
    }

    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let (n, t, c) = x.dims3()?;
        let qkv = linear(x, &self.qkv)?;
        let heads = |k| qkv.narrow(2, k * c, c)?.reshape((n, t, HEADS, c / HEADS))?.transpose(1, 2)?.contiguous();
        let scores = (heads(0)?.matmul(&heads(1)?.transpose(2, 3)?.contiguous()?)? / ((c / HEADS) as f64).sqrt())?;
        let mixed = softmax(&scores, D::Minus1)?.matmul(&heads(2)?)?;
        linear(&mixed.transpose(1, 2)?.reshape((n, t, c))?, &self.out)
    }
}

/// `(n,t,a) → (n,t,b)` by a weight `(b,a)`.
fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(x.broadcast_matmul(&weight.t()?.contiguous()?)?)
}

/// Layer normalisation without weights.
fn norm(x: &Tensor) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
    Ok(centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)?)
}

fn weight(rows: usize, columns: usize, dtype: DType) -> Result<Tensor> {
    let after = |x: &u64| Some((16843009 * x + 3014898611) % (1 << 32));
    let numbers = std::iter::successors(Some(1u64), after).skip(1).map(|x| (x as f64 / (1u64 << 32) as f64) as f32);
    Ok(Tensor::from_iter(numbers.take(rows * columns), &device()?)?.reshape((rows, columns))?.to_dtype(dtype)?)
}
