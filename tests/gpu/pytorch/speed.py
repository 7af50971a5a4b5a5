#!/usr/bin/env python3
"""How fast PyTorch runs: one JSON line per measurement. Run it natively and through avec in the same session."""
import json
import statistics
import sys
import time

import torch

import models


def report(what, unit, values):
    values = sorted(values)
    print(json.dumps({"what": what, "unit": unit, "median": round(statistics.median(values), 4),
                      "best": round(values[0], 4), "p90": round(values[int(len(values) * 0.9)], 4)}), flush=True)


def timed(function, count):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        function()
        times.append((time.perf_counter() - begin) * 1e3)
    return times


def main():
    begin = time.perf_counter()
    x = torch.ones(16, device="cuda") + 1
    torch.cuda.synchronize()
    report("torch.first_kernel", "ms", [(time.perf_counter() - begin) * 1e3])
    torch.manual_seed(0)
    with torch.inference_mode():
        model = models.resnet50().eval().cuda()
        image = torch.randn(1, 3, 224, 224).pin_memory()
        step = lambda: model(image.cuda(non_blocking=True)).cpu()  # noqa: E731
        timed(step, 20)
        report("torch.resnet50", "ms", timed(step, 100))
        model = models.Gpt2().eval().cuda()
        prompt = torch.arange(16, device="cuda")[None]
        models.generate(model, prompt, 8)
        report("torch.gpt2_token", "ms", [t / 64 for t in timed(lambda: models.generate(model, prompt, 64), 5)])
        a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
        b = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
        for _ in range(10):
            a @ b
        torch.cuda.synchronize()

        def products():
            for _ in range(100):
                a @ b
            torch.cuda.synchronize()

        report("torch.bf16_4096_product", "ms", [t / 100 for t in timed(products, 5)])


if __name__ == "__main__":
    sys.exit(main())
