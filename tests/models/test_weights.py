import numpy as np
import pytest
import torch
from helpers import are_equal

from models import build_model
from models import weights as checkpoint
from system.errors import UserError
from system.files import atomic_write

ARCHITECTURE = {
    "name": "DeepShare",
    "n_colors": 10,
    "n_scale": 8,
    "n_feats": 4,
    "n_subs": 5,
    "n_ovls": 3,
    "n_blocks": 2,
}


@pytest.mark.parametrize("extra", [{}, {"use_share": False}, {"global_residual": True}, {"n_scale": 3}, {"n_scale": 2}])
def test_architecture_is_read_from_the_weights(tmp_path, extra):
    wanted = {"use_share": True, "global_residual": False, **ARCHITECTURE, **extra}
    model = build_model(**wanted)
    checkpoint.save_weights(model, tmp_path / "weights.pth", wanted["n_ovls"])
    loaded = checkpoint.load(tmp_path / "weights.pth")
    state, architecture = loaded.model.state_dict(), loaded.architecture
    assert architecture == wanted
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor)


def test_overlap_is_read_from_name_or_config(tmp_path):
    state = dict(build_model(**ARCHITECTURE).state_dict())
    torch.save(state, tmp_path / "Cave_DeepShare_Blocks=3_Subs8_Ovls3_Feats=256_epoch_10_x.pth")
    assert checkpoint.load(next(tmp_path.glob("*.pth"))).architecture["n_ovls"] == 3
    torch.save(state, tmp_path / "plain.pth")
    assert checkpoint.load(tmp_path / "plain.pth").architecture["n_ovls"] == 2
    assert checkpoint.load(tmp_path / "plain.pth", 4).architecture["n_ovls"] == 4
    with pytest.raises(UserError, match="--n_ovls 4"):
        checkpoint.load(next(tmp_path.glob("Cave*.pth")), 4)
    (tmp_path / "config.json").write_text("{bad")
    assert checkpoint.load(tmp_path / "plain.pth").architecture["n_ovls"] == 2
    (tmp_path / "config.json").write_text('{"n_ovls": 1}')
    assert checkpoint.load(tmp_path / "plain.pth").architecture["n_ovls"] == 1


@pytest.mark.parametrize("wrap", [lambda s: {f"module.{k}": v for k, v in s.items()}, lambda s: {"state_dict": s}])
def test_foreign_prefixes_and_wrappers_are_removed(golden_x4, tmp_path, wrap):
    released = torch.load(golden_x4.weights_path, weights_only=True)
    torch.save(wrap(released), tmp_path / "wrapped.pth")
    state = checkpoint.load_state(tmp_path / "wrapped.pth")
    assert state.keys() == released.keys()


def test_saved_weights_have_the_released_names(golden_x4, tmp_path):
    architecture = checkpoint.load(golden_x4.weights_path).architecture
    model = build_model(**architecture).to(memory_format=torch.channels_last)
    checkpoint.save_weights(model, tmp_path / "w.pth", 2)
    ours = torch.load(tmp_path / "w.pth", weights_only=True)
    released = torch.load(golden_x4.weights_path, weights_only=True)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in released.items()}
    assert all(v.is_contiguous() for v in ours.values())


def test_unsuitable_weights_are_refused_by_name(tmp_path):
    state = build_model(**ARCHITECTURE).state_dict()
    del state["final.bias"]
    state["stray"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"1 missing \(final.bias\); 1 unknown \(stray\)"):
        checkpoint.load_strictly(build_model(**ARCHITECTURE), state, "w.pth")
    state = build_model(**{**ARCHITECTURE, "n_colors": 11}).state_dict()
    with pytest.raises(UserError, match="of another shape"):
        checkpoint.load_strictly(build_model(**ARCHITECTURE), state, "w.pth")
    state = build_model(**ARCHITECTURE).state_dict()
    state["final.bias"][0] = torch.nan
    with pytest.raises(UserError, match=r"final\.bias has values that are not finite"):
        checkpoint.load_strictly(build_model(**ARCHITECTURE), state, "w.pth")


def whole_module(path):
    torch.save(build_model(**ARCHITECTURE), path)


def truncated(path):
    checkpoint.save_weights(build_model(**ARCHITECTURE), path, 3)
    path.write_bytes(path.read_bytes()[:1000])


def other_network(path):
    torch.save({"conv.weight": torch.zeros(3)}, path)


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("weights")


def number(path):
    torch.save(3, path)


@pytest.mark.parametrize("write", [whole_module, truncated, other_network, empty, text, number])
def test_files_that_are_not_weights_are_refused(tmp_path, write):
    write(tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth"):
        checkpoint.load(tmp_path / "w.pth")


def test_text_files_are_refused_as_text(tmp_path):
    text(tmp_path / "README.md")
    with pytest.raises(UserError, match="a text that begins with: weights, not a checkpoint"):
        checkpoint.load(tmp_path / "README.md")


def test_failed_atomic_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "deep" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(KeyError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_full_disk_is_reported_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="disk is full"), atomic_write(tmp_path / "file"), open("/dev/full", "w") as f:
        f.write("x")
        f.flush()


PEERS = {
    "SSPSR": {"n_feats": 4, "n_subs": 5, "n_ovls": 3, "n_blocks": 2, "global_residual": False},
    "GDRRN": {"n_feats": 4},
    "3DFCNN": {"global_residual": True},
    "MCNet": {"n_feats": 4, "n_blocks": 2, "global_residual": True},
}


@pytest.mark.parametrize("n_scale", [3, 8])
@pytest.mark.parametrize("name", PEERS)
def test_baseline_architecture_is_read_from_weights(tmp_path, name, n_scale):
    wanted = {"name": name, "n_colors": 10, "n_scale": n_scale, **PEERS[name]}
    model = build_model(**wanted)
    checkpoint.save_weights(model, tmp_path / "weights.pth", 3)
    found = checkpoint.load(tmp_path / "weights.pth")
    loaded, architecture = found.model, found.architecture
    assert architecture == wanted
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(t, model.state_dict()[k]) for k, t in loaded.state_dict().items())


def test_released_baselines_are_recognised(golden_peer):
    values = golden_peer.values
    architecture = checkpoint.load(golden_peer.weights_path, n_scale=4).architecture
    names = {"fcnn3d": "3DFCNN", "gdrrn": "GDRRN", "mcnet": "MCNet", "sspsr": "SSPSR"}
    assert (
        architecture["name"] == names[golden_peer.weights_path.name.lower().replace("3dfcnn", "fcnn3d").split("_")[0]]
    )
    recorded = values.keys() & {"n_colors", "n_scale", "n_feats", "n_subs", "n_blocks"}
    assert {name: architecture[name] for name in recorded} == {name: values[name] for name in recorded}


@pytest.mark.parametrize("name", ["GDRRN", "3DFCNN"])
def test_unknown_scale_is_asked_for(tmp_path, name):
    torch.save(dict(build_model(name, 10, 4, n_feats=4).state_dict()), tmp_path / "w.pth")
    with pytest.raises(UserError, match="set --n_scale"):
        checkpoint.load(tmp_path / "w.pth")
    assert checkpoint.load(tmp_path / "w.pth", n_scale=8).architecture["n_scale"] == 8
    (tmp_path / "config.json").write_text('{"n_scale": 2, "n_colors": 10}')
    architecture = checkpoint.load(tmp_path / "w.pth").architecture
    assert (architecture["n_scale"], architecture["n_colors"]) == (2, 10)
    with pytest.raises(UserError, match="--n_scale 8"):
        checkpoint.load(tmp_path / "w.pth", n_scale=8)


def test_mcnet_without_means_gets_released_means(tmp_path):
    model = build_model("MCNet", 31, 4, n_feats=4)
    state = dict(model.state_dict())
    del state["band_means"]
    torch.save(state, tmp_path / "w.pth")
    loaded = checkpoint.load(tmp_path / "w.pth").model
    assert loaded.band_means[[0, 15, 30]].tolist() == pytest.approx([0.0939, 0.1187, 0.1541])


def test_incomplete_weights_of_baselines_are_refused(tmp_path):
    for name, lost in (("SSPSR", "branch.head.weight"), ("MCNet", "tail.0.weight_v"), ("GDRRN", "input.weight")):
        state = dict(build_model(name, 31, 4, n_feats=4).state_dict())
        del state[lost]
        torch.save(state, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth: not the weights of"):
            checkpoint.load(tmp_path / "w.pth", n_scale=4)


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return dict(build_model("DeepShare", 9, 2, n_feats=4).state_dict())


def prefixed(tensors, prefix):
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "kept",
    [
        lambda t: {"state_dict": t, "epoch": 3, "best_psnr": np.float64(38.2), "step": np.int64(7)},
        lambda t: {"model_state_dict": t, "epoch": 3},
        lambda t: {"params": t},
        lambda t: {"netG": t, "netD": {"w": torch.zeros(1)}},
        lambda t: {"generator": t},
        lambda t: {"model": {"state_dict": t}},
        lambda t: prefixed(t, "_orig_mod."),
        lambda t: prefixed(t, "module._orig_mod."),
        lambda t: prefixed(t, "_orig_mod.module."),
        lambda t: {"state_dict": prefixed(t, "model."), "pytorch-lightning_version": "2"},
        lambda t: {"state_dict": prefixed(t, "model.module._orig_mod."), "epoch": 1},
        lambda t: {name.replace("branch1.", "branch1._orig_mod."): tensor for name, tensor in t.items()},
        lambda t: {**t, "total_ops": torch.zeros(1), "trunk.total_params": torch.zeros(1)},
        lambda t: {**t, "epoch": 4},
    ],
)
def test_common_containers_of_weights_are_read(tensors, tmp_path, kept):
    torch.save(kept(tensors), tmp_path / "w.pth")
    assert are_equal(checkpoint.load(tmp_path / "w.pth", n_ovls=2).model.state_dict(), tensors)


def test_running_mean_is_preferred_and_reported(tensors, tmp_path, capsys):
    other = {name: tensor + 1 for name, tensor in tensors.items()}
    torch.save({"params": other, "params_ema": tensors}, tmp_path / "w.pth")
    assert are_equal(checkpoint.load(tmp_path / "w.pth", n_ovls=2).model.state_dict(), tensors)
    assert "running mean of the weights (params_ema), not params" in capsys.readouterr().out


def test_safetensors_are_read(tensors, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(prefixed(tensors, "module."), tmp_path / "w.safetensors")
    assert are_equal(checkpoint.load(tmp_path / "w.safetensors", n_ovls=2).model.state_dict(), tensors)
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-100])
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "cut.safetensors", n_ovls=2)


def test_files_without_weights_list_their_contents(tmp_path):
    torch.save({"optimizer": {"lr": 1}, "epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"contains no state_dict \(found optimizer, epoch\)"):
        checkpoint.load(tmp_path / "w.pth")
    torch.save([1, 2], tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"contains no state_dict \(found a list\)"):
        checkpoint.load(tmp_path / "w.pth")


def test_a_container_within_itself_ends(tmp_path):
    content = {}
    content["model"] = content
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(UserError, match="contains no state_dict"):
        checkpoint.load(tmp_path / "a.pth")


def test_tensors_of_other_kinds(tmp_path):
    state = dict(build_model(**{**ARCHITECTURE, "n_ovls": 2}).state_dict())
    name = "final.weight"
    for kind in (torch.float8_e4m3fn, torch.float16):
        torch.save({**state, name: state[name].to(kind)}, tmp_path / "a.pth")
        loaded = checkpoint.load(tmp_path / "a.pth").model.state_dict()[name]
        assert torch.equal(loaded, state[name].to(kind).float())
    for other in (state[name].to_sparse(), state[name].to(torch.complex64)):
        torch.save({**state, name: other}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=f"{name} is sparse, quantised or complex"):
            checkpoint.load(tmp_path / "a.pth")


def test_folders_do_not_hide_bundled_weights(tmp_path, monkeypatch):
    (tmp_path / "cave_x4_small").mkdir()
    monkeypatch.chdir(tmp_path)
    assert checkpoint.load("cave_x4_small").architecture["n_feats"] == 32
