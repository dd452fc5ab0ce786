"""The training step: loss, gradients, accumulation, two processes, precision, average, validation and state."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_runs import launch

import ddnb
from ddnb.checkpoints.checkpoint import Checkpoint
from ddnb.errors import ArgumentError
from ddnb.nets.build import build_network
from ddnb.nets.spectral import SpectralConfig, SpectralUNet
from ddnb.schedule import alpha_sigma
from ddnb.training import dataset
from ddnb.training.batches import draw
from ddnb.training.config import TrainingConfig
from ddnb.training.dataset import EXAMPLES
from ddnb.training.ema import Ema
from ddnb.training.loop import from_scratch
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


@pytest.fixture
def spectral():
    """An untrained spectral network."""
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
    return Checkpoint(net, 22050, 2048, torch.device("cpu"), torch.float32, facts)


def gradients(trainer):
    loss = trainer.compute_gradients()
    return loss, {name: p.grad.clone() for name, p in trainer.trainable.items()}


def assert_close(a, b, relative):
    scale = max(g.abs().max() for g in a.values())
    for name in a:
        assert (a[name] - b[name]).abs().max() <= relative * scale, name


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_rank": 2},
        *(
            pytest.param(s, marks=pytest.mark.slow)
            for s in ({}, {"shorten": 4}, {"loop_every": 2}, {"categories": False})
        ),
    ],
)
def test_spectral_network_learns(spectral, examples, settings):
    data = replace(examples, audio=examples.audio[:, :1])
    learner = Trainer(spectral, data, TrainingConfig(batch_size=2, steps=40, learning_rate=3e-3, **settings))
    assert learner.config.times == "log_normal"
    before = learner.validate()
    for _ in range(20):
        learner.train_step()
    assert learner.validate() < before
    state, facts = learner.export("x")
    again = build_network(state)
    assert again.config.planes == len(learner.categories) == len(facts["categories"])


def test_network_that_has_generated_can_be_trained(spectral, examples):
    """What a network caches between calls serves both; the batch size is found for this kind as well."""
    ddnb.generate(spectral, 1, steps=1)
    learner = Trainer(spectral, replace(examples, audio=examples.audio[:, :1]), TrainingConfig(steps=4))
    assert learner.config.batch_size >= 1
    assert math.isfinite(learner.train_step())


def test_shortened_batches_hold_more_but_shorter_clips(examples):
    whole, part = trainer(examples, shorten=4).batches.read(0), trainer(examples, shorten=4).batches.read(1)
    assert whole[0].shape == (4, 2, FRAMES) and part[0].shape == (16, 2, FRAMES // 4)
    assert not part[0][..., -1].any()  # faded out: the end of the clip is not that of the sound
    plain = trainer(examples).batches.read(0)
    assert plain[0].shape == (4, 2, FRAMES)
    with pytest.raises(ArgumentError, match="shorten=7"):
        trainer(examples, shorten=7)


def test_loops_are_shifted_circularly(spectral, examples):
    data = replace(examples, audio=examples.audio[:, :1])
    settings = {"batch_size": 4, "augment": False}
    shifted, plain = (
        Trainer(spectral, data, TrainingConfig(loop_every=n, **settings)).batches.read(0)[0] for n in (1, 0)
    )
    assert not np.array_equal(shifted, plain)
    for a, b in zip(shifted, plain, strict=True):
        np.testing.assert_allclose(np.sort(a, -1), np.sort(b, -1))


def test_unet_trains_on_loops(examples):
    """The same weights have another loss with circular convolutions."""
    shifted, plain = trainer(examples, loop_every=1), trainer(examples, loop_every=0)
    assert np.isfinite(shifted.train_step())
    x0, times, noise, cond = plain._draw_step(0)
    loop = shifted._loss(shifted.net, x0, times, noise, cond, circular=True)
    assert loop != shifted._loss(shifted.net, x0, times, noise, cond)


def test_loss_is_the_squared_error_of_v(examples, monkeypatch):
    """A network that knows sound and noise has loss 0; one that returns 0 has the mean square of v."""
    t = trainer(examples, categories=False)
    x0, times, noise, cond = t._draw_step(0)
    alpha, sigma = alpha_sigma(times[:, None, None])
    v = alpha * noise - sigma * x0
    perfect = t._loss(lambda x, at, planes, circular: v, x0, times, noise, cond)
    silent = t._loss(lambda x, at, planes, circular: torch.zeros_like(x), x0, times, noise, cond)
    assert perfect == 0
    torch.testing.assert_close(silent, v.square().mean())

    def check_inputs(x, at, planes, circular):
        torch.testing.assert_close(x, alpha * x0 + sigma * noise)
        assert torch.equal(at, times)
        return torch.zeros_like(x)

    t._loss(check_inputs, x0, times, noise, cond)


def test_gradient_matches_a_finite_difference(examples):
    """The difference is taken along the gradient itself."""
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
        ends.append(t.compute_gradients())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(length**2, rel=0.02)


def test_times_are_stratified_over_the_step(examples):
    """Each of 12 strata has one time, over three accumulated batches of four: every step has all noise levels."""
    t = trainer(examples, accumulate=3, times="uniform")
    times = torch.cat([t._draw_step(micro)[1] for micro in range(3)])
    assert sorted((times * 12).long().tolist()) == list(range(12))
    later = trainer(examples, accumulate=3, times="uniform")
    later.step = 1
    assert not torch.equal(later._draw_step(0)[1], t._draw_step(0)[1])


def test_accumulated_gradient_is_the_mean_over_batches(examples):
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
    """Write the gradients of one step with a batch of 2; each of two processes runs this."""
    examples = dataset.decode(EXAMPLES, 22050, 2)
    t = trainer(examples, batch_size=2, accumulate=2)
    assert t.accelerator.num_processes == 2
    loss, grads = gradients(t)
    validation = t.validate()
    if t.is_main:
        torch.save({"loss": loss, "grads": grads, "validation": validation}, f"{folder}/two.pt")


@pytest.mark.slow
def test_two_processes_compute_the_gradient_of_twice_the_batch(examples, tmp_path):
    """The processes use gloo on the CPU, started as accelerate starts them."""
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


def test_recomputation_changes_no_weight(examples):
    plain, recomputing = trainer(examples), trainer(examples, recompute_levels=3)
    losses = [(plain.train_step(), recomputing.train_step()) for _ in range(3)]
    assert all(a == b for a, b in losses)
    for a, b in zip(plain.trainable.values(), recomputing.trainable.values(), strict=True):
        assert torch.equal(a, b)


def test_lora_starts_at_the_same_loss_and_lowers_it(examples):
    full, small = trainer(examples), trainer(examples, lora_rank=4, learning_rate=5e-3)
    assert full.compute_gradients() == small.compute_gradients()
    frozen = {n: p.clone() for n, p in small.net.named_parameters() if n not in small.trainable}
    before = small.validate()
    for _ in range(15):
        small.optimizer.zero_grad()
        small.train_step()
    assert small.validate() < before
    assert all(torch.equal(p, frozen[n]) for n, p in small.net.named_parameters() if n in frozen)
    assert small.state_bytes < full.state_bytes / 2


@pytest.mark.slow
def test_half_precision_follows_float32(examples):
    """bfloat16 on a CPU runs the same code as on a GPU."""
    exact, half = trainer(examples), trainer(examples, dtype="bfloat16")
    losses = [(exact.train_step(), half.train_step()) for _ in range(4)]
    assert all(a != b and a == pytest.approx(b, rel=0.05) for a, b in losses)
    assert all(p.dtype == torch.float32 for p in half.trainable.values())


def test_ema_matches_its_closed_form():
    """With decay d_n at update n the weight of update k is (1 - d_k) d_(k+1) ... d_n."""
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


def test_ema_swap_is_undone_after_an_error():
    p = torch.nn.Parameter(torch.ones(2))
    ema = Ema({"p": p}, 0.9, torch.device("cpu"))
    with torch.no_grad():
        p.fill_(5.0)
    with pytest.raises(RuntimeError), ema.swap():
        assert (p == 1).all()
        raise RuntimeError
    assert (p == 5).all()


def test_validation_is_repeatable_and_uses_the_average(examples):
    t = trainer(examples)
    first = t.validate()
    assert first == t.validate() == pytest.approx(trainer(examples, batch_size=3).validate(), rel=1e-6)
    with torch.no_grad():
        for value in t.ema.values.values():
            value.zero_()
    zero = t.validate()
    assert zero != first
    assert t.validate() == zero
    clips, _ = draw(examples, t.held_out, range(32), FRAMES, crop=t.config.crop, augment=None, seed=0)
    assert zero == pytest.approx(0.5 + 0.5 * np.square(clips).mean(), abs=0.2)  # roughly the mean square of v


@pytest.mark.parametrize("options", [{}, {"lora_rank": 3}, {"accumulate": 2, "ema_on_cpu": True}])
def test_restored_state_continues_bit_for_bit(examples, options):
    """The next steps are those of a trainer that was never stopped."""
    through, resumed = trainer(examples, batch_size=2, **options), trainer(examples, batch_size=2, **options)
    for _ in range(2):
        through.train_step()
    tensors, facts = through.state()
    resumed.restore({name: tensor.clone() for name, tensor in tensors.items()}, facts)
    for _ in range(2):
        assert through.train_step() == resumed.train_step()
    for (name, a), b in zip(through.state()[0].items(), resumed.state()[0].values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_changes_no_weight(examples, value, monkeypatch):
    t = trainer(examples)
    t.train_step()
    before = {n: p.clone() for n, p in t.trainable.items()}
    broken = t._clips
    monkeypatch.setattr(t, "_clips", lambda number: (broken(number)[0] * value, broken(number)[1]))
    with pytest.raises(FloatingPointError, match="step 2"):
        t.train_step()
    assert t.step == 1 and all(torch.equal(p, before[n]) for n, p in t.trainable.items())


def test_learning_rate_warms_up_and_decays(examples):
    t = trainer(examples, steps=1000, learning_rate=1.0)
    rates = []
    for t.step in range(1000):
        rates.append(t.learning_rate)
    assert rates[0] == pytest.approx(0.01) and rates[99:800] == [1.0] * 701
    assert rates[899] == pytest.approx(0.505, abs=0.01) and 0 < rates[999] < 0.01
    assert trainer(examples, steps=1, learning_rate=1.0).learning_rate == 1.0


@pytest.mark.slow
def test_float16_state_can_be_restored_in_any_precision(examples):
    """A run may move between machines in float16 and in bfloat16 or float32."""
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


def test_float16_overflow_skips_the_update_and_lowers_the_scale(examples):
    t = trainer(examples, dtype="float16")
    before, scale = {n: p.clone() for n, p in t.trainable.items()}, t.scaler.get_scale()
    loss = t.compute_gradients()
    next(iter(t.trainable.values())).grad.fill_(math.inf)
    t._update(loss)
    assert t.scaler.get_scale() == scale / 2
    assert all(torch.equal(p, before[n]) for n, p in t.trainable.items())


def test_swapped_network_is_not_consistent(examples, monkeypatch):
    """Averages must never be saved as weights."""
    t = trainer(examples)
    assert t.is_consistent
    with t.ema.swap():
        assert not t.is_consistent
    assert t.is_consistent
