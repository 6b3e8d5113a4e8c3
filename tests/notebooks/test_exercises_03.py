"""Chapter 3: right answers pass, and the mistakes that learners make do not."""

import pytest
import torch
import torch.nn.functional as F

from aigc_lib.teaching.exercises import all_exercises


def is_right(exercise_id, answer):
    return bool(all_exercises()[exercise_id].is_right(answer))


def test_the_loss_is_in_nats():
    assert is_right("3.1.1-loss-value", 0.3285)
    assert not is_right("3.1.1-loss-value", 0.4739)  # bits
    assert not is_right("3.1.1-loss-value", -0.3285)
    assert not is_right("3.1.1-loss-value", 1.7148)  # log 0.2 instead of log 0.8


def test_the_best_accuracy_is_that_of_the_middle_threshold():
    assert is_right("3.1.1-best-accuracy", 0.8413)
    assert not is_right("3.1.1-best-accuracy", 0.6827)  # the total variation itself
    assert not is_right("3.1.1-best-accuracy", 0.9772)  # the whole distance instead of half


def discriminator_update(
    generator, discriminator, optimiser, real, z, *, detach=True, clear=True, reals=True, step=True
):
    fake = generator(z).detach() if detach else generator(z)
    loss = F.softplus(discriminator(fake)).mean()
    if reals:
        loss = loss + F.softplus(-discriminator(real)).mean()
    if clear:
        optimiser.zero_grad()
    loss.backward()
    if step:
        optimiser.step()


def generator_update(generator, discriminator, optimiser, z, *, freeze=True, thaw=True, detach=False, clear=True):
    discriminator.requires_grad_(not freeze)
    fake = generator(z).detach() if detach else generator(z)
    loss = F.softplus(-discriminator(fake)).mean()
    if clear:
        optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    discriminator.requires_grad_(thaw)


def test_a_step_of_the_discriminator_is_accepted():
    assert is_right("3.1.1-discriminator-step", discriminator_update)


@pytest.mark.parametrize("mistake", ["detach", "clear", "reals", "step"])
def test_a_step_of_the_discriminator_with_a_mistake_is_not(mistake):
    wrong = lambda *players: discriminator_update(*players, **{mistake: False})  # noqa: E731
    assert not is_right("3.1.1-discriminator-step", wrong)


def test_a_step_of_the_generator_is_accepted():
    assert is_right("3.1.1-generator-step", generator_update)


def test_a_generator_that_clears_the_discriminators_gradients_by_hand_is_accepted():
    def update(generator, discriminator, optimiser, z):
        generator_update(generator, discriminator, optimiser, z, freeze=False)
        discriminator.zero_grad()

    assert is_right("3.1.1-generator-step", update)


@pytest.mark.parametrize("mistake", [{"freeze": False}, {"thaw": False}, {"clear": False}])
def test_a_step_of_the_generator_with_a_mistake_is_not(mistake):
    wrong = lambda *players: generator_update(*players, **mistake)  # noqa: E731
    assert not is_right("3.1.1-generator-step", wrong)


def test_a_generator_that_is_cut_off_raises_like_torch():
    wrong = lambda *players: generator_update(*players, detach=True)  # noqa: E731
    with pytest.raises(RuntimeError, match="does not require grad"):
        is_right("3.1.1-generator-step", wrong)


def test_the_saturating_loss_is_not_the_one_that_was_asked_for():
    def update(generator, discriminator, optimiser, z):
        gradients = torch.autograd.grad(-F.softplus(discriminator(generator(z))).mean(), list(generator.parameters()))
        for parameter, gradient in zip(generator.parameters(), gradients, strict=True):
            parameter.grad = gradient
        optimiser.step()

    assert not is_right("3.1.1-generator-step", update)


def stop(distances, patience, *, peek=False, ties=False):
    best = 0
    for i, distance in enumerate(distances):
        if distance < distances[best] or (ties and distance == distances[best]):
            best = i
        if i - best >= patience and not peek:
            break
    return best


def test_the_stop_rule_keeps_the_best_that_patience_saw():
    assert is_right("3.1.1-stop-rule", stop)
    assert not is_right("3.1.1-stop-rule", lambda d, p: stop(d, p, peek=True))  # looks at all of them
    assert not is_right("3.1.1-stop-rule", lambda d, p: stop(d, p, ties=True))
    assert not is_right("3.1.1-stop-rule", lambda d, p: len(d) - 1)
