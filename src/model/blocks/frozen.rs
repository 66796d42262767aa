//! x·Wᵀ with a constant W on every device. candle's own product would also work out W's gradient, for every example, and throw it
//! away.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, D, Layout, MetalStorage, Shape, Storage, Tensor};

use super::weight::Weight;

/// `(…,c) → (…,d)`: y = x·Wᵀ for W `(d,c)`. The backward yields x̄ = ȳ·W and nothing else.
pub(super) fn product(x: &Tensor, weight: &Weight) -> candle_core::Result<Tensor> {
    x.contiguous()?.apply_op1(Product(weight.clone()))
}

struct Product(Weight);

impl Product {
    /// x·Wᵀ on the device that `own` knows the storage of.
    fn of<S: BackendStorage>(
        &self,
        x: &S,
        layout: &Layout,
        own: fn(&Storage) -> Option<&S>,
    ) -> candle_core::Result<(S, Shape)> {
        let weight = self.0.dense()?;
        let ((to, from), (storage, place)) = (weight.dims2()?, weight.storage_and_layout());
        let Some(w) = own(&storage) else {
            candle_core::bail!("a block's weights are on another device than its input")
        };
        let dims = layout.dims();
        if dims.last() != Some(&from) {
            candle_core::bail!("a linear block's input has shape {dims:?}, expected (…, {from})")
        }
        let rows = layout.shape().elem_count() / from;
        let x_rows = Layout::contiguous_with_offset((rows, from), layout.start_offset());
        let y = x.matmul(w, (1, rows, to, from), &x_rows, &place.transpose(0, 1)?)?;
        Ok((y, [&dims[..dims.len() - 1], &[to]].concat().into()))
    }
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "pellucid-frozen-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        self.of(x, layout, |storage| if let Storage::Cpu(own) = storage { Some(own) } else { None })
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        self.of(x, layout, |storage| if let Storage::Cuda(own) = storage { Some(own) } else { None })
    }

    fn metal_fwd(&self, x: &MetalStorage, layout: &Layout) -> candle_core::Result<(MetalStorage, Shape)> {
        self.of(x, layout, |storage| if let Storage::Metal(own) = storage { Some(own) } else { None })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let rows = (dy.elem_count() / dy.dim(D::Minus1)?, ());
        let dx = dy.contiguous()?.reshape(rows)?.matmul(&self.0.dense()?)?;
        dx.reshape(x.shape()).map(Some)
    }
}
