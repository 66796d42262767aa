"""Captum's LayerIntegratedGradients on a BERT folder, one run per line of standard input.

    python captum_bert.py FOLDER TOKENS STEPS BATCH THREADS

With BATCH 0 the folder is made: a BertForSequenceClassification of MiniLM's size with random weights. Otherwise every
line that comes in starts one run, and its answer is a line of JSON: seconds, peak memory in MiB, Σ scores, delta.
"""

import sys

import torch
import transformers
from captum.attr import LayerIntegratedGradients
from serving import serve


def make(folder: str) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536, num_labels=2
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)


def answer(folder: str, tokens: int, steps: int, batch: int) -> None:
    model = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    method = LayerIntegratedGradients(lambda ids: model(ids).logits, model.bert.embeddings.word_embeddings)
    ids = torch.tensor([[101] + [1000 + 37 * k % 20000 for k in range(tokens - 2)] + [102]])
    serve(
        lambda: method.attribute(
            ids, ids * 0, target=1, n_steps=steps, internal_batch_size=batch, return_convergence_delta=True
        )
    )


if __name__ == "__main__":
    folder, (tokens, steps, batch, threads) = sys.argv[1], map(int, sys.argv[2:6])
    torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    answer(folder, tokens, steps, batch) if batch else make(folder)
