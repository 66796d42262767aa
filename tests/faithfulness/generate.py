"""Makes captum.json beside this file: what Captum says of infidelity and max-sensitivity.

    python generate.py

Needs torch and captum 0.9. The function is one that the tests know: f(x) = Σ tanh(x)·w + x₀·x₁·x₂, with w = 1, −2, 3, … . Points,
scores and perturbations are drawn here with a seed and written down with the answers, all in float64.
"""

import json
from pathlib import Path

import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from captum.metrics import infidelity, sensitivity_max

HERE = Path(__file__).parent
SIZE, DRAWS = 5, 12


def f(x):
    w = torch.tensor([(-1.0) ** i * (i + 1) for i in range(SIZE)], dtype=torch.float64)
    return (x.tanh() * w).sum(1) + x[:, 0] * x[:, 1] * x[:, 2]


def gradient(x):
    return Saliency(f).attribute(x, abs=False)


def from_zero(x):
    return IntegratedGradients(f).attribute(x, method="gausslegendre", n_steps=50)


METHODS = {"gradient": gradient, "gradient_x_input": InputXGradient(f).attribute, "integrated_gradients": from_zero}


def case(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, SIZE, generator=generator, dtype=torch.float64)
    moves = 0.3 * torch.randn(DRAWS, SIZE, generator=generator, dtype=torch.float64)
    taken_off = lambda inputs: (moves, inputs - moves)
    added = lambda inputs: inputs + moves
    answers = {}
    for name, method in METHODS.items():
        scores = method(x)
        ask = lambda normalize: infidelity(f, taken_off, x, scores, n_perturb_samples=DRAWS, normalize=normalize).item()
        answers[name] = {
            "scores": scores[0].tolist(),
            "infidelity": ask(False),
            "infidelity_rescaled": ask(True),
            "max_sensitivity": sensitivity_max(method, x, perturb_func=added, n_perturb_samples=DRAWS).item(),
        }
    return {"x": x[0].tolist(), "perturbations": moves.tolist(), "methods": answers}


def main():
    (HERE / "captum.json").write_text(json.dumps([case(seed) for seed in range(4)], indent=1) + "\n")


if __name__ == "__main__":
    main()
