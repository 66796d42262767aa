//! **pellucid** opens transformers up and shows, one Jupyter cell at a time, why they said what they said.
//!
//! ```
//! use pellucid::prelude::*;
//!
//! let bert = Bert::load("pellucid/tiny-bert-sentiment")?;
//! let text = bert.read("I absolutely loved the movie!")?;
//! let target = Target::Logit(bert.label("positive")?);
//!
//! let x = bert.embed(&text)?;                                                // (t,c)
//! let baseline = bert.baseline(&text, &Baseline::token("[MASK]"))?;          // (t,c)
//! let f = |x: &Tensor| target.of(&bert.logits(&text, x)?);                   // (n,t,c) → (n,)
//!
//! let why = integrated_gradients(f, &x, &baseline, &Steps::default())?.over(&text)?.words()?;
//! assert_eq!(why.top(1)[0].0, "loved");
//! assert!(why.completeness.unwrap().relative_gap < 1e-2);
//! # Ok::<(), pellucid::Error>(())
//! ```
//!
//! # The way the data walks
//!
//! ```text
//! text ──read──▶ tokens ──embed──▶ x ──forward under Rules, seen by Hooks──▶ logits ──Target──▶ f(x)
//!                                  │                                                            │
//!   Attribution + Completeness ◀── a method: interpolate, grad_at, riemann_sum, ablate, …
//!                  │
//!                Show ──▶ HTML and charts in the notebook, text in the terminal, JSON on disk
//! ```
//!
//! Models know nothing of methods, methods nothing of display, display nothing of models.
//!
//! # Axis letters
//!
//! The first line of every function's documentation gives shapes in these letters.
//!
//! | letter | axis | letter | axis |
//! |---|---|---|---|
//! | `b` | batch | `v` | vocabulary or classes |
//! | `n` | points of a path, variants of one input | `o` | outputs of a function, tokens of an answer |
//! | `t` | tokens | `g` | groups of features |
//! | `c` | channels | `s` | sources, and whatever else is there or not |
//! | `h` | heads | `m` | masks, draws, examples |
//! | `h,w` | height and width of a picture | `L` | layers |
//! | | | `…` | any axes |
//!
//! There is one leading axis, `b` or `n`, and nothing else in front of a shape; [`jacobian_at`] alone puts `o` before it.

#![warn(missing_docs)]

mod ablation;
mod agreement;
mod attcat;
mod attention_flow;
mod attention_gradients;
mod attribution;
pub mod baseline;
mod batches;
mod bootstrap;
mod causal_rollout;
pub mod check;
mod context_cite;
mod device;
mod error;
pub mod faithfulness;
mod full_grad;
mod grad;
mod grad_cam;
mod grad_eclip;
mod integrated_gradients;
pub mod kernel;
mod lasso;
mod layer_gradients;
mod le_grad;
mod lime;
pub mod model;
mod outcomes;
mod path;
mod patterns;
mod progress;
mod resample;
mod rollout;
mod saliency;
mod seed;
mod shapley;
pub mod show;
mod superpixels;
mod target;
mod tensor;
mod token_tm;
pub mod zoo;

pub use ablation::{Groups, ablate, embedding_sensitivity, feature_ablation, occlusion, replace_absent};
pub use agreement::rank_correlation;
pub use attcat::attcat;
pub use attention_flow::{attention_flow, attention_flow_row};
pub use attention_gradients::{AttentionGradients, attention_gradients, gae, gae_normalised, gradient_rollout};
pub use attribution::{Attribution, Completeness, Features, Output};
pub use bootstrap::Bootstrap;
pub use candle_core;
pub use causal_rollout::{CausalRollout, causal_rollout};
pub use context_cite::{
    ContextCite, Hierarchy, Intervals, Masks, Passes, Planted, Sources, Support, Surrogate, bootstrap_surrogate,
    context_prompt, draw_masks, find_planted, fit_context_surrogate, hierarchical_context_cite, log_prob_drop,
    span_logit, token_log_odds, verify,
};
pub use device::device;
pub use error::{Error, Result};
pub use full_grad::{full_grad, full_grad_plus, full_grad_plus_normalised, skip_plus};
pub use grad::{grad_at, grad_check, jacobian_at};
pub use grad_cam::{grad_cam_plus, hires_cam, x_grad_cam_plus};
pub use grad_eclip::grad_eclip;
pub use integrated_gradients::{Convergence, Steps, convergence, integrated_gradients};
pub use layer_gradients::{LayerGradients, layer_gradients};
pub use le_grad::le_grad;
pub use lime::{Lime, lime};
pub use path::{Quadrature, interpolate, riemann_sum};
pub use resample::{Interpolation, resample};
pub use rollout::{HeadFusion, Rollout, rollout, rollout_heads, rollout_levels, rollout_row};
pub use saliency::{Noise, gradient, gradient_x_input, smooth_grad, smooth_grad_squared, var_grad};
pub use shapley::{Coalitions, Permutations, kernel_shap, shapley_sampling, shapley_values};
pub use superpixels::superpixels;
pub use target::Target;
pub use token_tm::token_tm;

/// What a notebook's first cell brings into scope.
pub mod prelude {
    pub use crate::check;
    pub use crate::model::hook::{Clear, Edit, Hook, Record, Site, Tap};
    pub use crate::model::parts::{Field, Parts};
    pub use crate::model::text::{Continuation, Text, Token};
    pub use crate::model::{
        Baseline, Bert, CausalLm, Clip, Image, Load, Message, Mixer, Processor, Product, Prompts, Rule, Rules,
        Sampling, Vision, VisualPrompt, Vit, Vlm,
    };
    pub use crate::show::{
        Chart, Comparison, Gallery, HeadGrid, HeatStrip, Heatmap, Matrix, Overlay, ScoreTable, Series, Show,
    };
    pub use crate::zoo::{
        Biography, Colour, Decided, Facts, Object, Question, RoleKind, Scene, Scenes, Sentence, Shape, Truth,
    };
    pub use crate::{
        AttentionGradients, Attribution, Bootstrap, CausalRollout, Coalitions, Completeness, ContextCite, Convergence,
        Error, Features, Groups, HeadFusion, Hierarchy, Interpolation, Intervals, LayerGradients, Lime, Masks, Noise,
        Output, Passes, Permutations, Planted, Quadrature, Result, Rollout, Sources, Steps, Support, Surrogate, Target,
        ablate, attcat, attention_flow, attention_flow_row, attention_gradients, bootstrap_surrogate, causal_rollout,
        context_prompt, convergence, device, draw_masks, embedding_sensitivity, feature_ablation, find_planted,
        fit_context_surrogate, full_grad, full_grad_plus, full_grad_plus_normalised, gae, gae_normalised, grad_at,
        grad_cam_plus, grad_check, grad_eclip, gradient, gradient_rollout, gradient_x_input, hierarchical_context_cite,
        hires_cam, integrated_gradients, interpolate, jacobian_at, kernel_shap, layer_gradients, le_grad, lime,
        log_prob_drop, occlusion, rank_correlation, replace_absent, resample, riemann_sum, rollout, rollout_heads,
        rollout_levels, rollout_row, shapley_sampling, shapley_values, skip_plus, smooth_grad, smooth_grad_squared,
        span_logit, superpixels, token_log_odds, token_tm, var_grad, verify, x_grad_cam_plus,
    };
    pub use candle_core::{D, DType, Device, IndexOp, Tensor, Var};
}

/// The README's programs are compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
