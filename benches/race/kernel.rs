//! The notebook's kernel that `cargo lab` makes, against ipykernel with the peers in it, both asked as a notebook asks them.

use std::path::PathBuf;

use super::{Family, Race, Same, Task};
use crate::common::plan::{Scale, home};
use crate::common::shape::{Model, Work};

pub const FAMILY: Family = Family {
    name: "kernel",
    maker: "captum_bert.py",
    script: "kernel.py",
    models: "kernel",
    shape,
    work: None,
    races: &[
        Race {
            ours: &[Task {
                row: "first-cell",
                what: "a kernel's start and a chapter's first cells, with a model",
                against: "first",
                operations: None,
                same: Same::Within(0.0),
            }],
            peer: "",
            peers: &[("first", &["ipykernel"])],
            rounds: 3,
        },
        Race {
            ours: &[Task {
                row: "cell",
                what: "a cell: 1 + 1",
                against: "cell",
                operations: None,
                same: Same::Within(0.0),
            }],
            peer: "",
            peers: &[("cell", &["ipykernel"])],
            rounds: 15,
        },
        Race {
            ours: &[Task {
                row: "tensor",
                what: "a cell: the sum of a product of two 64 × 64 matrices",
                against: "tensor",
                operations: None,
                same: Same::Within(0.0),
            }],
            peer: "",
            peers: &[("tensor", &["ipykernel"])],
            rounds: 15,
        },
    ],
    compare: None,
    absent: Some(absent),
    on_device: false,
};

/// What ipykernel loads: as large as `pellucid/tiny-bert-sentiment`.
fn shape(_: Scale) -> (Model, Work) {
    let (kind, vocabulary, places, spread) = ("bert".into(), 375, 48, 0.02);
    let model = Model {
        kind,
        layers: 3,
        channels: 64,
        heads: 4,
        shared: 4,
        inner: 128,
        vocabulary,
        places,
        spread,
        side: 0,
        eyes: None,
    };
    (model, Work::default())
}

fn absent() -> Option<String> {
    let warm: PathBuf = home().join(".lab/kernels/warm/stamp");
    (!warm.is_file()).then(|| "no kernel here: `cargo lab prepare` makes it, in some minutes".into())
}
