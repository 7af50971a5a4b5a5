#!/usr/bin/env python3
"""What people do with PyTorch, one case a process: cases.py NAME. Prints digests of results, which are the same
natively and through avec where PyTorch itself is deterministic; `cases.py --list` prints the names."""
import hashlib
import os
import sys
import warnings

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
warnings.filterwarnings("ignore")
import torch  # noqa: E402
from torch import nn  # noqa: E402

import models  # noqa: E402

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def show(name, *tensors):
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes() if tensor.dtype == torch.bfloat16
                      else tensor.detach().cpu().contiguous().numpy().tobytes())
    first = tensors[0].detach().flatten()[:1].cpu()
    print(f"{name}: {tuple(tensors[0].shape)} {first.item():.6g} {digest.hexdigest()[:16]}", flush=True)


def infer(model, *shape):
    torch.manual_seed(1)
    model = model().eval().cuda()
    x = torch.randn(*shape)
    with torch.inference_mode():
        for _ in range(3):
            y = model(x.cuda()).cpu()
    show("output", y)


@case
def basics():
    x = torch.arange(12.0, device="cuda").reshape(3, 4)
    show("product", x @ x.T)
    show("sum", (x * 2 + 1).sum(0))
    show("sorted", torch.sort(torch.rand(1000, device="cuda", generator=torch.Generator("cuda").manual_seed(3)))[0])
    print(torch.cuda.get_device_capability() >= (7, 0), torch.cuda.device_count() >= 1)


@case
def resnet50():
    infer(models.resnet50, 1, 3, 224, 224)


@case
def vgg19():
    infer(models.vgg19_features, 1, 3, 224, 224)


@case
def mobilenet():
    infer(models.mobilenet_v2, 2, 3, 224, 224)


@case
def vit():
    infer(models.VisionTransformer, 2, 3, 224, 224)


@case
def gpt2():
    torch.manual_seed(2)
    model = models.Gpt2().eval().cuda()
    with torch.inference_mode():
        print(models.generate(model, torch.arange(16, device="cuda")[None], 24))


def train(bf16):
    torch.manual_seed(4)
    torch.backends.cudnn.deterministic = True
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
                          nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 256, 10)).cuda()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    x, y = torch.randn(32, 3, 32, 32), torch.randint(10, (32,))
    for _ in range(6):
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = nn.functional.cross_entropy(model(x.cuda()), y.cuda())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        show("loss", loss)
    show("weights", *model.parameters())


@case
def adam_fp32():
    train(False)


@case
def adam_bf16():
    train(True)


@case
def attention():
    torch.manual_seed(5)
    torch.use_deterministic_algorithms(True, warn_only=True)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        q, k, v = (torch.randn(2, 8, 128, 64, device="cuda", dtype=dtype, requires_grad=True) for _ in range(3))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        y.sum().backward()
        show(str(dtype), y, v.grad)


@case
def cudnn_benchmark():
    torch.manual_seed(6)
    torch.backends.cudnn.benchmark = True
    layer = nn.Conv2d(8, 16, 3, padding=1).cuda()
    x = torch.randn(4, 8, 40, 40, device="cuda")
    expected = nn.functional.conv2d(x.cpu(), layer.weight.cpu(), layer.bias.cpu(), padding=1)
    print(torch.allclose(layer(x).cpu(), expected, atol=1e-2), torch.allclose(layer(x).cpu(), expected, atol=1e-2))


@case
def rnn():
    torch.manual_seed(7)
    layer = nn.LSTM(16, 32, 2).cuda()
    y, _ = layer(torch.randn(12, 3, 16, device="cuda"))
    y.sum().backward()
    show("lstm", y, *[p.grad for p in layer.parameters()])


@case
def fft():
    torch.manual_seed(8)
    x = torch.randn(64, 48, device="cuda")
    show("fft2", torch.view_as_real(torch.fft.fft2(x)))
    show("rfft", torch.fft.irfft(torch.fft.rfft(x)))


@case
def linalg():
    torch.manual_seed(9)
    a = torch.randn(24, 24, dtype=torch.float64).cuda()
    s = a @ a.T + 24 * torch.eye(24, device="cuda", dtype=torch.float64)
    b = torch.randn(24, 3, dtype=torch.float64).cuda()
    show("solve", torch.linalg.solve(a, b))
    show("cholesky", torch.linalg.cholesky(s))
    show("svd", torch.linalg.svdvals(a))
    show("eigh", torch.linalg.eigh(s)[0])
    show("qr", torch.linalg.qr(a)[1].abs())
    show("inverse", torch.linalg.inv(s))
    show("batched", torch.linalg.solve(a.expand(4, 24, 24), b.expand(4, 24, 3)))
    show("eig", torch.linalg.eigvals(s).real.sort()[0])


@case
def sparse():
    torch.manual_seed(10)
    dense = torch.randn(40, 30) * (torch.rand(40, 30) < 0.2)
    x = torch.randn(30, 8).cuda()
    show("coo", torch.sparse.mm(dense.to_sparse().cuda(), x))
    show("csr", dense.to_sparse_csr().cuda() @ x)
    show("spspmm", torch.sparse.mm(dense.to_sparse().cuda(), dense.T.contiguous().to_sparse().cuda()).to_dense())


@case
def graphs():
    torch.manual_seed(11)
    model = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 32)).cuda()
    x = torch.randn(16, 64, device="cuda")
    with torch.no_grad():
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                model(x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = model(x)
        for i in range(3):
            x.copy_(torch.full_like(x, i))
            graph.replay()
            show("replay", y)


class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return torch.full((8, 8), float(i))


@case
def dataloader():
    total = torch.zeros((), device="cuda")
    loader = torch.utils.data.DataLoader(Numbers(), 8, num_workers=2, pin_memory=True)
    for batch in loader:
        assert batch.is_pinned()
        total += batch.to("cuda", non_blocking=True).sum()
    print(total.item())


@case
def streams():
    a, b = torch.cuda.Stream(), torch.cuda.Stream()
    event = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    x = torch.ones(1 << 16, device="cuda")
    torch.cuda.synchronize()
    event.record()
    with torch.cuda.stream(a):
        for _ in range(10):
            x = x * 1.5
        done = torch.cuda.Event()
        done.record()
    with torch.cuda.stream(b):
        b.wait_event(done)
        y = x + 1
    torch.cuda.current_stream().wait_stream(b)
    end.record()
    end.synchronize()
    show("sum", y.sum())
    print(event.elapsed_time(end) > 0, done.query())


@case
def compiled():
    torch.manual_seed(12)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 8)).cuda()
    run = torch.compile(model)
    x = torch.randn(16, 32, device="cuda")
    print(torch.allclose(run(x), model(x), atol=1e-5))
    loss = run(x).square().mean()
    loss.backward()
    print(model[0].weight.grad is not None)


@case
def memory():
    x = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    print(torch.cuda.memory_allocated() >= 64 << 20, "Allocated memory" in torch.cuda.memory_summary())
    free, total = torch.cuda.mem_get_info()
    print(0 < free < total)
    del x
    torch.cuda.empty_cache()
    print(torch.cuda.memory_allocated())


@case
def out_of_memory():
    try:
        torch.empty(1 << 50, dtype=torch.uint8, device="cuda")
    except torch.OutOfMemoryError as error:
        print("refused:", str(error).split(".")[0])
    kept = []
    try:
        while True:
            kept.append(torch.empty(8 << 30, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        print("full", len(kept) >= 1)
    kept.clear()
    torch.cuda.empty_cache()
    show("afterwards", torch.ones(4, device="cuda") + 1)


@case
def device_assert():
    try:
        table = torch.zeros(4, device="cuda")
        print(table[torch.tensor([9], device="cuda")].cpu())
    except RuntimeError as error:
        print(str(error).splitlines()[0])


@case
def sampling():
    torch.manual_seed(13)
    show("normal", torch.randn(1000, device="cuda"))
    show("dropout", nn.functional.dropout(torch.ones(1000, device="cuda")))
    show("multinomial", torch.multinomial(torch.ones(50, device="cuda"), 10))


@case
def nvml():
    print(torch.cuda.utilization() >= 0, torch.cuda.temperature() > 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["--list"]:
        print("\n".join(CASES))
    else:
        CASES[sys.argv[1]]()
