"""One step of training: the objective, accumulation, several processes, the average, what is kept."""

import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DATA, FORMAT

import ddnb
from ddnb.checkpoints.checkpoint import Checkpoint
from ddnb.nets.build import network
from ddnb.nets.spectral import SpectralConfig, SpectralUNet
from ddnb.nets.unet import with_planes
from ddnb.schedule import alpha_sigma
from ddnb.training import dataset
from ddnb.training.config import Recipe
from ddnb.training.dataset import EXAMPLES
from ddnb.training.ema import Ema
from ddnb.training.loop import from_scratch
from ddnb.training.memory import activation_bytes
from ddnb.training.trainer import Trainer

FRAMES = 2048


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DDNB_CACHE", str(tmp_path_factory.mktemp("cache")))
        return dataset.decode(EXAMPLES, 22050, 2)


def trainer(examples, **recipe):
    ckpt = from_scratch("tiny", sample_rate=22050, frames=FRAMES, device="cpu")
    return Trainer(ckpt, examples, Recipe(**({"batch_size": 4, "steps": 20} | recipe)))


def gradients(trainer):
    loss = trainer.gradients()
    return loss, {name: p.grad.clone() for name, p in trainer.trainable.items()}


def assert_close(a, b, relative):
    scale = max(g.abs().max() for g in a.values())
    for name in a:
        assert (a[name] - b[name]).abs().max() <= relative * scale, name


@pytest.fixture
def spectral():
    """An untrained network of the other kind."""
    config = SpectralConfig(hop=16, widths=(16, 32), blocks=1, planes=1, envelopes=1, cells=(8, 10), embedding=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SpectralUNet(config).requires_grad_(False)
    net.prior.log_levels.fill_(-2)
    facts = {
        "name": "spectral",
        "source": "spectral",
        "licence": "MIT",
        "untrained": True,
        "categories": ["any"],
        "weights_sha256": "0",
    }
    return Checkpoint(net, 22050, FRAMES, torch.device("cpu"), torch.float32, facts)


@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}, {"shorten": 4}, {"loop_every": 2}, {"categories": False}])
def test_the_other_kind_of_network_learns_as_well(spectral, examples, settings):
    data = replace(examples, audio=examples.audio[:, :1])
    learner = Trainer(spectral, data, Recipe(batch_size=2, steps=40, learning_rate=3e-3, **settings))
    assert learner.recipe.times == "log_normal"
    before = learner.validate()
    for _ in range(20):
        learner.train_step()
    assert learner.validate() < before
    assert not learner.net.circular
    state, facts = learner.exported("x")
    again = network(state)
    assert again.config.planes == len(learner.categories) == len(facts["categories"])


def test_listening_comes_before_training(spectral, examples):
    """What is kept between calls must serve both; and the batch size of the other kind is counted as well."""
    ddnb.generate(spectral, 1, steps=1)
    learner = Trainer(spectral, replace(examples, audio=examples.audio[:, :1]), Recipe(steps=4))
    assert learner.recipe.batch_size >= 1
    assert math.isfinite(learner.train_step())


def test_short_batches_are_beginnings(examples):
    whole, part = trainer(examples, shorten=4)._read(0), trainer(examples, shorten=4)._read(1)
    assert whole[0].shape == (4, 2, FRAMES) and part[0].shape == (16, 2, FRAMES // 4)
    assert not part[0][..., -1].any()  # faded out: the end of the clip is not that of the sound
    plain = trainer(examples)._read(0)
    assert plain[0].shape == (4, 2, FRAMES)
    with pytest.raises(ValueError, match="shorten=7"):
        trainer(examples, shorten=7)


def test_loops_are_turned(spectral, examples):
    data = replace(examples, audio=examples.audio[:, :1])
    settings = {"batch_size": 4, "augment": False}
    turned, plain = (Trainer(spectral, data, Recipe(loop_every=n, **settings))._read(0)[0] for n in (1, 0))
    assert not np.array_equal(turned, plain)
    for a, b in zip(turned, plain, strict=True):
        np.testing.assert_allclose(np.sort(a, -1), np.sort(b, -1))


def test_the_published_network_learns_loops_too(examples):
    """On a circle the same weights make another loss, and it is gone from the network after the step."""
    turned, plain = trainer(examples, loop_every=1), trainer(examples, loop_every=0)
    assert np.isfinite(turned.train_step()) and turned.net.circular is False
    x0, times, noise, cond = plain._draw_step(0)
    with turned._as_loop(True):
        loop = turned._loss(turned.net, x0, times, noise, cond)
    assert loop != turned._loss(turned.net, x0, times, noise, cond)


def test_the_loss_is_that_of_v(examples, monkeypatch):
    """A network that knows the sound and the noise has loss 0; one that says 0 has the mean square of v."""
    t = trainer(examples, categories=False)
    x0, times, noise, cond = t._draw_step(0)
    alpha, sigma = alpha_sigma(times[:, None, None])
    v = alpha * noise - sigma * x0
    perfect = t._loss(lambda x, at, planes: v, x0, times, noise, cond)
    silent = t._loss(lambda x, at, planes: torch.zeros_like(x), x0, times, noise, cond)
    assert perfect == 0
    torch.testing.assert_close(silent, v.square().mean())

    def sees(x, at, planes):
        torch.testing.assert_close(x, alpha * x0 + sigma * noise)
        assert torch.equal(at, times)
        return torch.zeros_like(x)

    t._loss(sees, x0, times, noise, cond)


def test_the_gradient_is_that_of_the_loss(examples):
    """Against a finite difference along the gradient itself."""
    t = trainer(examples, batch_size=2)
    _, grads = gradients(t)
    length = math.sqrt(sum(float(g.square().sum()) for g in grads.values()))
    step = 1e-3 / length
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for name, p in t.trainable.items():
                p += sign * step * grads[name] * (1 if sign == 1 else 2)
        t.optimizer.zero_grad()
        ends.append(t.gradients())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(length**2, rel=0.02)


def test_times_are_spread_evenly_over_the_step(examples):
    """One time in each of 12 strata, over three accumulated batches of four; so every step sees all noise levels."""
    t = trainer(examples, accumulate=3, times="uniform")
    times = torch.cat([t._draw_step(micro)[1] for micro in range(3)])
    assert sorted((times * 12).long().tolist()) == list(range(12))
    later = trainer(examples, accumulate=3, times="uniform")
    later.step = 1
    assert not torch.equal(later._draw_step(0)[1], t._draw_step(0)[1])


def test_accumulation_is_the_mean_of_its_batches(examples):
    t = trainer(examples, accumulate=2)
    loss, grads = gradients(t)
    losses, sums = [], {}
    for micro in range(2):
        t.optimizer.zero_grad()
        one = t._loss(t.net, *t._draw_step(micro))
        one.backward()
        losses.append(one.item())
        sums = {n: sums.get(n, 0) + p.grad / 2 for n, p in t.trainable.items()}
    assert loss == pytest.approx(np.mean(losses), rel=1e-6)
    assert_close(grads, sums, 1e-5)


def one_of_two_processes(folder):
    """What each of two processes runs: the gradients of one step with a batch of 2, written by the first."""
    examples = dataset.decode(EXAMPLES, 22050, 2)
    t = trainer(examples, batch_size=2, accumulate=2)
    assert t.accelerator.num_processes == 2
    loss, grads = gradients(t)
    validation = t.validate()
    if t.is_main:
        torch.save({"loss": loss, "grads": grads, "validation": validation}, f"{folder}/two.pt")


def launch(*arguments):
    """Run a program in two processes on the CPU, by torchrun, which is what ``accelerate launch`` uses for GPUs."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", port]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    run = subprocess.run(
        [*launcher, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=environment
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run


def test_two_processes_do_what_one_does_with_twice_the_batch(examples, tmp_path):
    """gloo on the CPU, started as accelerate sets it up."""
    script = tmp_path / "two.py"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from test_trainer import one_of_two_processes\none_of_two_processes({str(tmp_path)!r})\n"
    )
    launch(script)
    two = torch.load(tmp_path / "two.pt")
    one = trainer(examples, batch_size=4, accumulate=2)
    loss, grads = gradients(one)
    assert two["loss"] == pytest.approx(loss, rel=1e-5)
    assert two["validation"] == pytest.approx(one.validate(), rel=1e-5)
    assert_close(grads, two["grads"], 1e-5)


def test_recomputation_changes_nothing_but_the_memory(examples):
    plain, frugal = trainer(examples), trainer(examples, recompute_levels=3)
    losses = [(plain.train_step(), frugal.train_step()) for _ in range(3)]
    assert all(a == b for a, b in losses)
    for a, b in zip(plain.trainable.values(), frugal.trainable.values(), strict=True):
        assert torch.equal(a, b)


def test_lora_begins_with_the_same_loss_and_lowers_it(examples):
    full, small = trainer(examples), trainer(examples, lora_rank=4, learning_rate=5e-3)
    assert full.gradients() == small.gradients()
    frozen = {n: p.clone() for n, p in small.net.named_parameters() if n not in small.trainable}
    before = small.validate()
    for _ in range(15):
        small.optimizer.zero_grad()
        small.train_step()
    assert small.validate() < before
    assert all(torch.equal(p, frozen[n]) for n, p in small.net.named_parameters() if n in frozen)
    assert small.state_bytes < full.state_bytes / 2


def test_half_precision_follows_float32(examples):
    """bfloat16 on a CPU; what runs on a GPU is the same code."""
    exact, half = trainer(examples), trainer(examples, dtype="bfloat16")
    losses = [(exact.train_step(), half.train_step()) for _ in range(4)]
    assert all(a != b and a == pytest.approx(b, rel=0.05) for a, b in losses)
    assert all(p.dtype == torch.float32 for p in half.trainable.values())


def test_the_average_is_the_weighted_mean_of_the_weights():
    """In closed form: with decay d_n at update n the weight of update k is (1 - d_k) d_(k+1) ... d_n."""
    p = torch.nn.Parameter(torch.zeros(3))
    ema = Ema({"p": p}, 0.9, None)
    values, decays = [torch.zeros(3)], []
    for n in range(1, 60):
        with torch.no_grad():
            p.copy_(torch.randn(3))
        values.append(p.detach().clone())
        ema.update()
        decays.append(min(0.9, (1 + n) / (10 + n)))
    weights = [1.0]
    for d in decays:
        weights = [w * d for w in weights] + [1 - d]
    torch.testing.assert_close(ema.values["p"], sum(w * v for w, v in zip(weights, values, strict=True)))
    assert sum(weights) == pytest.approx(1)


def test_the_average_is_put_in_place_and_taken_out():
    p = torch.nn.Parameter(torch.ones(2))
    ema = Ema({"p": p}, 0.9, torch.device("cpu"))
    with torch.no_grad():
        p.fill_(5.0)
    with pytest.raises(RuntimeError), ema.in_place():
        assert (p == 1).all()
        raise RuntimeError
    assert (p == 5).all()


def test_validation_is_the_same_every_time_and_sees_the_average(examples):
    t = trainer(examples)
    first = t.validate()
    assert first == t.validate() == trainer(examples, batch_size=3).validate()
    with torch.no_grad():
        for value in t.ema.values.values():
            value.zero_()
    zero = t.validate()
    assert zero != first
    assert t.validate() == zero
    clips, _ = dataset.draw(examples, t.held_out, range(32), FRAMES, crop=t.recipe.crop, augment=None, seed=0)
    assert zero == pytest.approx(0.5 + 0.5 * np.square(clips).mean(), abs=0.2)  # roughly the mean square of v


def test_no_sound_is_trained_on_and_validated_with(examples):
    t = trainer(examples)
    assert t.held_out and not {p.sound for p in t.held_out} & {p.sound for p in t.pieces}


def test_categories_begin_where_the_checkpoint_was(examples, ema_weights, vectors):
    """Step 0 of a class-conditional start is the unconditional checkpoint, bitwise."""
    ckpt = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    t = Trainer(ckpt, examples, Recipe(batch_size=1))
    assert t.categories == ("hat", "kick", "snare") and t.net.config.planes == 3
    x, at = torch.randn(3, 2, 4096), torch.tensor([0.2, 0.5, 1.0])
    with torch.no_grad():
        torch.testing.assert_close(t.net(x, at, torch.eye(3)[..., None]), ckpt.net(x, at), rtol=0, atol=0)
    state, facts = t.exported("drums")
    for name, tensor in with_planes(ema_weights, 3).items():
        assert torch.equal(state[name], tensor), name
    assert facts["categories"] == ["hat", "kick", "snare"] and facts["finetuned_from"] == "lightning"


def test_known_categories_keep_their_planes_and_new_ones_follow(examples, tmp_path):
    """A plane that changed its meaning would turn kicks into hats."""
    first = trainer(examples)
    state, facts = first.exported("first")
    facts["categories"] = ["tom", "kick", "zap"]
    from ddnb.checkpoints.formats import write_safetensors

    write_safetensors(tmp_path / "first.safetensors", state, facts)
    again = Trainer(ddnb.load(tmp_path / "first.safetensors", device="cpu"), examples, Recipe(batch_size=1))
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
    before = t.exported("x")[0]["net.0.skip.weight"][:, -3:]
    for _ in range(3):
        t.train_step()
    after = t.exported("x")[0]["net.0.skip.weight"][:, -3:]
    assert (before == 0).all() and after.abs().max() > 1e-4


def test_a_state_brings_everything_back(examples):
    """The next steps are bitwise those of a trainer that was never stopped."""
    for options in ({}, {"lora_rank": 3}, {"accumulate": 2, "ema_on_cpu": True}):
        through, stopped = trainer(examples, **options), trainer(examples, **options)
        for _ in range(3):
            through.train_step()
            stopped.train_step()
        tensors, facts = stopped.state()
        tensors = {k: v.clone() for k, v in tensors.items()}
        again = trainer(examples, **options)
        again.restore(tensors, facts)
        for _ in range(3):
            assert through.train_step() == again.train_step()
        for (name, a), b in zip(through.state()[0].items(), again.state()[0].values(), strict=True):
            assert torch.equal(a, b), (options, name)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_broken_loss_leaves_the_weights_alone(examples, value, monkeypatch):
    t = trainer(examples)
    t.train_step()
    before = {n: p.clone() for n, p in t.trainable.items()}
    broken = t._clips
    monkeypatch.setattr(t, "_clips", lambda number: (broken(number)[0] * value, broken(number)[1]))
    with pytest.raises(FloatingPointError, match="step 2"):
        t.train_step()
    assert t.step == 1 and all(torch.equal(p, before[n]) for n, p in t.trainable.items())


def test_the_rate_warms_up_and_falls(examples):
    t = trainer(examples, steps=1000, learning_rate=1.0)
    rates = []
    for t.step in range(1000):
        rates.append(t.learning_rate)
    assert rates[0] == pytest.approx(0.01) and rates[99:800] == [1.0] * 701
    assert rates[899] == pytest.approx(0.505, abs=0.01) and 0 < rates[999] < 0.01
    assert trainer(examples, steps=1, learning_rate=1.0).learning_rate == 1.0


def test_what_was_not_said_is_chosen(examples, monkeypatch):
    t = trainer(examples, batch_size=None)
    assert 1 <= t.recipe.batch_size <= 4
    assert t.recipe.learning_rate == 5e-4 and t.recipe.categories is True
    assert trainer(examples, lora_rank=2).recipe.learning_rate == 2e-4

    class Full:
        available = 1 << 20

    monkeypatch.setattr("psutil.virtual_memory", Full)
    assert trainer(examples, batch_size=None).recipe.batch_size == 1


def test_half_precision_checkpoints_are_trained_from_their_full_precision(examples):
    """On a GPU ``load`` gives bfloat16, whose 8 bits would be a poor place to start from."""
    exact = ddnb.load(DATA / "lightning.ckpt", device="cpu", **FORMAT)
    half = ddnb.load(DATA / "lightning.ckpt", device="cpu", dtype="bfloat16", **FORMAT)
    for name, weight in Trainer(half, examples, Recipe(batch_size=1)).net.state_dict().items():
        if name in exact.net.state_dict() and weight.shape == exact.net.state_dict()[name].shape:
            assert torch.equal(weight, exact.net.state_dict()[name]), name


@pytest.mark.parametrize("lora_rank", [None, 4])
def test_the_checkpoint_itself_is_not_changed(examples, lora_rank):
    """LoRA reads the checkpoint's own weights; nothing may write to them, not even the swap with the average."""
    ckpt = from_scratch("tiny", sample_rate=22050, frames=FRAMES, device="cpu")
    before = {k: v.clone() for k, v in ckpt.net.state_dict().items()}
    t = Trainer(ckpt, examples, Recipe(batch_size=2, lora_rank=lora_rank, learning_rate=0.01))
    for _ in range(2):
        t.train_step()
    t.validate()
    t.exported("x")
    assert all(torch.equal(v, before[k]) for k, v in ckpt.net.state_dict().items())


def test_activations_are_counted_as_they_are():
    """Against a count in a real forward pass. Attention differs: a CPU's fused kernel keeps no scores."""
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
    ],
)
def test_impossible_settings_are_explained(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Recipe(**wrong)


def test_too_many_class_folders_are_refused(examples, tmp_path):
    import shutil

    (source,) = list(EXAMPLES.glob("kick/bd_fat.flac"))
    for i in range(33):
        (tmp_path / "many" / f"class{i}").mkdir(parents=True)
        shutil.copy(source, tmp_path / "many" / f"class{i}")
    many = dataset.decode(tmp_path / "many", 22050, 2)
    with pytest.raises(ValueError, match="at most 32"):
        trainer(many)
    assert trainer(many, categories=False).net.config.planes == 0


def test_half_precision_trains_with_a_scaler_and_goes_on_in_any_precision(examples):
    """A run may move from a machine in bfloat16 or float32 to one in float16, and back."""
    half = trainer(examples, dtype="float16")
    losses = [half.train_step() for _ in range(3)]
    assert all(math.isfinite(loss) for loss in losses)
    tensors, facts = half.state()
    exact = trainer(examples)
    exact.restore(tensors, facts)
    exact.train_step()
    again = trainer(examples, dtype="float16")
    again.restore(*exact.state())
    assert again.step == 4 and math.isfinite(again.train_step())


def test_an_overflow_in_half_precision_skips_the_update_and_lowers_the_scale(examples):
    t = trainer(examples, dtype="float16")
    before, scale = {n: p.clone() for n, p in t.trainable.items()}, t.scaler.get_scale()
    loss = t.gradients()
    next(iter(t.trainable.values())).grad.fill_(math.inf)
    t._update(loss)
    assert t.scaler.get_scale() == scale / 2
    assert all(torch.equal(p, before[n]) for n, p in t.trainable.items())


def test_the_batch_is_found_by_trying(examples, monkeypatch):
    """As on a GPU, with an allocator that refuses more than 5 clips."""
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


def test_an_interrupted_swap_is_not_settled(examples, monkeypatch):
    """Averages must never be saved as weights."""
    t = trainer(examples)
    assert t.settled
    with t.ema.in_place():
        assert not t.settled
    assert t.settled


def test_without_categories_no_folder_is_one(examples, tmp_path):
    """A checkpoint's own categories do not come back through the folders' names."""
    from ddnb.checkpoints.formats import write_safetensors

    write_safetensors(tmp_path / "c.safetensors", *trainer(examples).exported("c"))
    ckpt = ddnb.load(tmp_path / "c.safetensors", device="cpu")
    t = Trainer(ckpt, examples, Recipe(batch_size=4, categories=False, class_dropout=0.0))
    assert ckpt.categories and (t._draw_step(0)[3] == 0).all()
