import argparse
import pickle
import resource
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from emomc.common.errors import UserError
from emomc.networks.build import build_network
from emomc.networks.weights import load_weights


def lenet(num_classes: int = 10) -> nn.Module:
    return build_network("lenet5", in_channels=1, num_classes=num_classes)


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt"])
def test_a_state_dict_as_it_is(tmp_path: Path, suffix: str):
    trained, fresh = lenet(), lenet()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        safetensors.torch.save_file(trained.state_dict(), path)
    else:
        torch.save(trained.state_dict(), path)
    load_weights(fresh, path)
    assert_equal(fresh, trained)


@pytest.mark.parametrize("wrapper", ["state_dict", "network", "net"])
@pytest.mark.parametrize("prefix", ["", "network.", "model.backbone."])
def test_a_checkpoint_with_more_in_it(tmp_path: Path, wrapper: str, prefix: str):
    trained, fresh = lenet(), lenet()
    values = {prefix + name: value for name, value in trained.state_dict().items()}
    if prefix:
        values["loss.weight"] = torch.ones(3)
    torch.save({wrapper: values, "epoch": 3, "optimizer_states": [{"lr": 0.1}]}, tmp_path / "last.ckpt")
    load_weights(fresh, tmp_path / "last.ckpt")
    assert_equal(fresh, trained)


def test_buffers_of_batch_norm_come_along(tmp_path: Path):
    trained = build_network("resnet18", in_channels=3, num_classes=4, network_args={"width": 0.05})
    trained(torch.randn(4, 3, 32, 32))
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    fresh = build_network("resnet18", in_channels=3, num_classes=4, network_args={"width": 0.05})
    load_weights(fresh, tmp_path / "weights.pt")
    assert_equal(fresh, trained)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values.pop("conv1.bias"), "expected weights of LeNet5 in .*, found no conv1.bias$"),
        (lambda values: values.update(extra=torch.ones(1)), "found unexpected names: extra$"),
        (
            lambda values: values.update({"linear2.bias": torch.ones(7)}),
            r"found linear2.bias of shape \(7,\) for \(10,\)$",
        ),
        (lambda values: values["conv2.bias"].fill_(float("nan")), "finite weights in .*, found .* in conv2.bias$"),
        (lambda values: [values.pop(name) for name in list(values)[:5]], "found no conv1.weight, .* and 2 more$"),
    ],
)
def test_weights_that_do_not_fit_change_nothing(tmp_path: Path, change, message: str):
    values = {name: value.clone() for name, value in lenet().state_dict().items()}
    change(values)
    torch.save(values, tmp_path / "weights.pt")
    network = lenet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(network, tmp_path / "weights.pt")
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("trap was sprung"),))


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"no weights at all", pickle.dumps(Trap(), protocol=2)])
def test_a_file_that_is_something_else_is_one_line(tmp_path: Path, monkeypatch, name: str, content: bytes):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(content)
    with pytest.raises(UserError, match=f"expected weights in {name}, .* cannot be read: ") as raised:
        load_weights(lenet(), Path(name))
    assert "\n" not in str(raised.value)
    assert not Path("trap was sprung").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_named_and_no_advice_given_to_run_its_code(tmp_path: Path, zipped: bool):
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"it has an object of torch\.nn\.\S+\.Linear, whose code is not run"):
        load_weights(lenet(), tmp_path / "whole.pt")


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {}])
def test_a_file_without_a_state_dict(tmp_path: Path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="expected a state dict"):
        load_weights(lenet(), tmp_path / "weights.pt")


def test_a_missing_file():
    with pytest.raises(UserError, match=r"a file of weights at nowhere.pt, found no such file"):
        load_weights(lenet(), Path("nowhere.pt"))


def test_what_training_scripts_leave_beside_the_weights(tmp_path: Path):
    trained, fresh = lenet(), lenet()
    path = tmp_path / "checkpoint.pth"
    numbers = {"best": np.float64(0.9), "epoch": np.int64(3), "seconds": np.float32(1)}
    rest = {"args": argparse.Namespace(lr=0.1, name="x"), **numbers}
    torch.save({"model": trained.state_dict(), **rest}, path)
    load_weights(fresh, path)
    assert_equal(fresh, trained)


def test_an_archive_that_grows_is_refused(tmp_path: Path):
    path = tmp_path / "bomb.pt"
    torch.save(lenet().state_dict(), tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for part in good.namelist():
            bomb.writestr(part, bytes(10_000_000) if "/data/" in part else good.read(part))
    assert path.stat().st_size < 1_000_000
    with pytest.raises(UserError, match="expected parts that are not compressed"):
        load_weights(lenet(), path)


@pytest.mark.parametrize("seed", range(40))
def test_a_damaged_file_is_one_line(tmp_path: Path, seed: int):
    generator = np.random.default_rng(seed)
    path = tmp_path / ("weights.pt" if seed % 2 else "weights.safetensors")
    if seed % 2:
        torch.save(lenet().state_dict(), path)
    else:
        safetensors.torch.save_file(lenet().state_dict(), path)
    content = bytearray(path.read_bytes())
    # Where the structure is: at the beginning and, of an archive, at the end.
    for place in generator.integers(0, 2000, 12):
        content[int(place) * int(generator.choice([-1, 1]))] = int(generator.integers(256))
    path.write_bytes(content)
    message = ""
    try:
        load_weights(lenet(), path)
    except UserError as error:
        message = str(error)
    assert "\n" not in message


def with_global(name: str, *arguments: object) -> bytes:
    """The pickle of a dictionary whose value is a call of a global that torch allows."""
    call = pickle.dumps(arguments, 2)[2:-1]
    return b"\x80\x02}q\x00U\x01ac" + name.replace(".", "\n", 1).encode() + b"\n" + call + b"Rs."


@pytest.mark.parametrize(
    "content",
    [
        with_global("builtins.bytearray", 20 << 30),
        with_global("torch.Tensor", 1 << 20, 1 << 16),
        with_global("torch.FloatStorage", 1 << 36),
        "a storage of gigabytes",
    ],
)
def test_a_small_file_that_asks_for_gigabytes(tmp_path: Path, content):
    path = tmp_path / "weights.pt"
    torch.save(lenet().state_dict(), tmp_path / "good.pt")
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(path, "w") as odd:
        for part in good.namelist():
            whole = good.read(part)
            if part.endswith("data.pkl"):
                # 150, the numbers in the first storage.
                whole = content if isinstance(content, bytes) else whole.replace(b"K\x96", b"J\x00\x00\x00\x7f", 1)
            odd.writestr(part, whole)
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(UserError, match=r"expected weights in .*, found a file that cannot be read"):
        load_weights(lenet(), path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 8 << 20
    assert resource.getrlimit(resource.RLIMIT_AS) == before


@pytest.mark.parametrize(
    "odd",
    [
        lambda weight: weight.to("meta"),
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to(torch.complex64),
        lambda weight: weight.to(torch.float8_e4m3fn),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_numbers_of_another_kind(tmp_path: Path, odd, strict: bool):
    state = lenet().state_dict()
    torch.save({**state, "conv1.weight": odd(state["conv1.weight"])}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"expected plain real numbers in .*weights.pt, found conv1.weight of torch\."):
        load_weights(lenet(), tmp_path / "weights.pt", strict=strict)
