"""The start of a training: settings and their ranges, categories, a copy of the checkpoint, batch size."""

import math
import shutil

import pytest
import torch
from conftest import DATA, FORMAT

import ddnb
from ddnb.checkpoints.formats import write_safetensors
from ddnb.errors import ArgumentError, DatasetError
from ddnb.nets.unet import with_planes
from ddnb.training import dataset
from ddnb.training.config import TrainingConfig
from ddnb.training.dataset import EXAMPLES
from ddnb.training.loop import from_scratch
from ddnb.training.memory import activation_bytes
from ddnb.training.trainer import Trainer

FRAMES = 1024


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return dataset.decode(EXAMPLES, 22050, 2)


def trainer(examples, **settings):
    ckpt = from_scratch("tiny", sample_rate=22050, frames=FRAMES, device="cpu")
    return Trainer(ckpt, examples, TrainingConfig(**({"batch_size": 4, "steps": 20} | settings)))


def test_held_out_sounds_are_not_trained_on(examples):
    t = trainer(examples)
    assert t.held_out and not {p.sound for p in t.held_out} & {p.sound for p in t.pieces}


def test_new_categories_start_at_the_checkpoint(examples, ema_weights):
    """Step 0 of a class-conditional start is the unconditional checkpoint, bit for bit."""
    ckpt = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    t = Trainer(ckpt, examples, TrainingConfig(batch_size=1))
    assert t.categories == ("hat", "kick", "snare") and t.net.config.planes == 3
    x, at = torch.randn(3, 2, 4096), torch.tensor([0.2, 0.5, 1.0])
    with torch.no_grad():
        torch.testing.assert_close(t.net(x, at, torch.eye(3)[..., None]), ckpt.net(x, at), rtol=0, atol=0)
    state, facts = t.export("drums")
    for name, tensor in with_planes(ema_weights, 3).items():
        assert torch.equal(state[name], tensor), name
    assert facts["categories"] == ["hat", "kick", "snare"] and facts["finetuned_from"] == "lightning"


def test_the_batch_size_of_the_built_in_network_is_chosen(drums):
    assert activation_bytes(drums.net.config, drums.frames) > 1e7


def test_known_categories_keep_their_planes(examples, tmp_path):
    """A plane that changed its meaning would turn kicks into hats. New categories follow the known ones."""
    first = trainer(examples)
    state, facts = first.export("first")
    facts["categories"] = ["tom", "kick", "zap"]
    write_safetensors(tmp_path / "first.safetensors", state, facts)
    again = Trainer(ddnb.load(tmp_path / "first.safetensors", device="cpu"), examples, TrainingConfig(batch_size=1))
    assert again.categories == ("tom", "kick", "zap", "hat", "snare")
    assert {p.label for p in again.pieces} <= {1, 3, 4}


def test_labels_become_planes_and_some_are_dropped(examples):
    t = trainer(examples, class_dropout=0.0, batch_size=12)
    planes = t._draw_step(0)[3]
    assert planes.shape == (12, 3, 1) and (planes.sum(dim=1) == 1).all()
    dropped = [trainer(examples, class_dropout=0.5, batch_size=24, seed=s)._draw_step(0)[3] for s in range(8)]
    share = 1 - torch.cat(dropped).sum(dim=1).mean().item()
    assert 0.3 < share < 0.7  # 192 draws: five standard deviations


def test_new_columns_learn(examples):
    t = trainer(examples)
    before = t.export("x")[0]["net.0.skip.weight"][:, -3:]
    for _ in range(3):
        t.train_step()
    after = t.export("x")[0]["net.0.skip.weight"][:, -3:]
    assert (before == 0).all() and after.abs().max() > 1e-4


def test_open_settings_are_chosen(examples, monkeypatch):
    t = trainer(examples, batch_size=None)
    assert 1 <= t.config.batch_size <= 4
    assert t.config.learning_rate == 5e-4 and t.config.categories is True
    assert trainer(examples, lora_rank=2).config.learning_rate == 1e-3

    class LittleMemory:
        available = 1 << 20

    monkeypatch.setattr("psutil.virtual_memory", LittleMemory)
    assert trainer(examples, batch_size=None).config.batch_size == 1


@pytest.mark.slow
def test_half_precision_checkpoint_is_trained_from_its_full_precision(examples):
    """On a GPU ``load`` returns bfloat16, whose 8 bits would be a poor start."""
    exact = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    half = ddnb.load(DATA / "lightning.ckpt", device="cpu", dtype="bfloat16", **FORMAT)
    for name, weight in Trainer(half, examples, TrainingConfig(batch_size=1)).net.state_dict().items():
        if name in exact.net.state_dict() and weight.shape == exact.net.state_dict()[name].shape:
            assert torch.equal(weight, exact.net.state_dict()[name]), name


@pytest.mark.parametrize("lora_rank", [None, 4])
def test_checkpoint_is_not_changed(examples, lora_rank):
    """LoRA reads the weights of the checkpoint; nothing may write to them, not even the swap with the average."""
    ckpt = from_scratch("tiny", sample_rate=22050, frames=FRAMES, device="cpu")
    before = {k: v.clone() for k, v in ckpt.net.state_dict().items()}
    t = Trainer(ckpt, examples, TrainingConfig(batch_size=2, lora_rank=lora_rank, learning_rate=0.01))
    for _ in range(2):
        t.train_step()
    t.validate()
    t.export("x")
    assert all(torch.equal(v, before[k]) for k, v in ckpt.net.state_dict().items())


def test_activation_memory_matches_a_real_forward_pass():
    """Attention differs: a fused kernel of the CPU keeps no scores."""
    ckpt = from_scratch("tiny", frames=FRAMES, device="cpu")
    net, kept = ckpt.net.train().requires_grad_(True), {}
    own = {p.data_ptr() for p in net.state_dict(keep_vars=True).values()}

    def count(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        net(torch.randn(1, 2, FRAMES), torch.rand(1))
    real = sum(t.untyped_storage().nbytes() for t in kept.values())
    assert activation_bytes(net.config, FRAMES) == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 1.5},
        {"batch_size": 0},
        {"batch_size": True},
        {"accumulate": -1},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"ema_decay": 1.0},
        {"class_dropout": -0.1},
        {"validation": 1.0},
        {"dtype": "float64"},
        {"times": "cosine"},
        {"save_dtype": "bfloat16"},
        {"lora_rank": 0},
        {"seed": -1},
        {"disk_budget_gb": 0},
        {"crop": "yes"},
        {"augment": None},
        {"licence": 3},
    ],
)
def test_rejects_settings_out_of_range(wrong):
    with pytest.raises(ArgumentError, match=rf"{next(iter(wrong))}=.*: expected "):
        TrainingConfig(**wrong)


def test_rejects_too_many_class_folders(examples, tmp_path):
    (source,) = list(EXAMPLES.glob("kick/bd_fat.flac"))
    for i in range(33):
        (tmp_path / "many" / f"class{i}").mkdir(parents=True)
        shutil.copy(source, tmp_path / "many" / f"class{i}")
    many = dataset.decode(tmp_path / "many", 22050, 2)
    with pytest.raises(DatasetError, match="at most 32"):
        trainer(many)
    assert trainer(many, categories=False).net.config.planes == 0


def test_gpu_batch_size_is_found_by_trying(examples, monkeypatch):
    """An allocator that refuses more than 5 clips takes the place of a GPU."""
    t = trainer(examples, batch_size=None)
    real, tried = t._loss, []

    def limited(model, x0, *rest):
        tried.append(len(x0))
        if len(x0) > 5:
            raise RuntimeError("CUDA out of memory")
        return real(model, x0, *rest)

    monkeypatch.setattr(t, "_loss", limited)
    assert [t._fits(size) for size in (32, 16, 8, 4)] == [False, False, False, True]
    assert all(p.grad is None for p in t.trainable.values())
    monkeypatch.setattr(t, "_loss", lambda *a: (_ for _ in ()).throw(RuntimeError("another fault")))
    with pytest.raises(RuntimeError, match="another fault"):
        t._fits(2)


def test_categories_can_be_disabled(examples, tmp_path):
    """Categories of the checkpoint are not trained through folders of the same names."""
    write_safetensors(tmp_path / "c.safetensors", *trainer(examples).export("c"))
    ckpt = ddnb.load(tmp_path / "c.safetensors", device="cpu")
    t = Trainer(ckpt, examples, TrainingConfig(batch_size=4, categories=False, class_dropout=0.0))
    assert ckpt.categories and (t._draw_step(0)[3] == 0).all()
