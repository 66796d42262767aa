"""Captum's LayerIntegratedGradients on a BERT folder. How it is asked: serving.py.

Task make: a BertForSequenceClassification with random weights, and a vocabulary in which the word "t1234" is token 1234, so that both
sides see the same ids. Task ig, setting batch-10: an internal batch of 10.
"""

import transformers
import torch
from captum.attr import LayerIntegratedGradients
from serving import asked, serve

SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}


def make(folder: str, model) -> None:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=model.channels, num_hidden_layers=model.layers, num_attention_heads=model.heads,
        intermediate_size=model.inner, vocab_size=model.vocabulary, max_position_embeddings=model.places, num_labels=2,
    )
    transformers.BertForSequenceClassification(config).save_pretrained(folder)
    with open(f"{folder}/vocab.txt", "w") as file:
        file.writelines(f"{SPECIAL.get(i, f't{i}')}\n" for i in range(model.vocabulary))


def attribution(options):
    """A function that explains once: scores and delta."""
    model = transformers.BertForSequenceClassification.from_pretrained(options.folder, dtype=options.dtype)
    model = model.eval().to(options.device)
    method = LayerIntegratedGradients(lambda ids: model(ids).logits, model.bert.embeddings.word_embeddings)
    ids = [101] + [1000 + 37 * k % 20000 for k in range(options.work.tokens - 2)] + [102]
    ids = torch.tensor([ids], device=options.device)
    batch = int(options.setting.removeprefix("batch-"))
    return lambda: method.attribute(
        ids, ids * 0, target=1, n_steps=options.work.steps, internal_batch_size=batch, return_convergence_delta=True
    )


if __name__ == "__main__":
    options = asked()
    if options.task == "make":
        make(options.folder, options.model)
    else:
        serve(attribution(options), options.device)
