"""Plain PyTorch: images per second in the second epoch. It runs in the environment of tests.benchmarks.pytorch."""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from torch import nn


class Network(nn.Module):
    """Rows in, logits out, from the last state of each direction."""

    def __init__(self, layers: int, bidirectional: bool, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            28, 128, layers, batch_first=True, bidirectional=bidirectional, dropout=dropout if layers > 1 else 0.0
        )
        self.directions = 2 if bidirectional else 1
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(128 * self.directions, 10)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        _, (state, _) = self.lstm(rows)
        return self.dense(self.dropout(torch.cat(list(state[-self.directions :]), dim=1)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("digits")
    parser.add_argument("--layers", type=int)
    parser.add_argument("--bidirectional", action="store_true")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--bfloat16", action="store_true")
    args = parser.parse_args()
    with np.load(args.digits) as saved:
        images, labels = torch.from_numpy(saved["pixels"] / np.float32(255)), torch.from_numpy(saved["labels"])
    network = Network(args.layers, args.bidirectional, args.dropout)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-3)
    for _ in range(2):
        began = time.perf_counter()
        for batch in torch.randperm(len(labels)).split(256):
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                logits = network(images[batch])
            loss = nn.functional.cross_entropy(logits.float(), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        seconds = time.perf_counter() - began
    print(len(labels) / seconds)


if __name__ == "__main__":
    main()
