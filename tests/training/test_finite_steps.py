"""A number that is not finite stops the run with a sentence, wherever it enters."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from modeling_siasamrea import SiaSamReaForVideoQuestionAnswering, SiaSamReaModel
from modeling_siasamrea.modeling_siasamrea import NonFiniteError
from modeling_siasamrea.training.lora import add_lora


NAN, INF = float("nan"), float("inf")


def of_task(task: str):
    return lambda question: question.task == task and "v2" not in question.video


def weights(trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("task", ["open_ended", "multiple_choice", "count"])
@pytest.mark.parametrize("value", [NAN, INF])
def test_scores_that_are_no_numbers_stop_training_and_evaluation(make_trainer, task, value):
    trainer = make_trainer(of_task(task), max_steps=5, max_grad_norm=0.0)
    with torch.no_grad():
        trainer.model.heads[task][-1].bias.fill_(value)
    before = weights(trainer)
    with pytest.raises(NonFiniteError, match=rf"step 1 .*task '{task}'.*about .*v\d.mp4"):
        trainer.train()
    for name, old in before.items():  # statistics of the count head's batch norm move in forward
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(trainer.model.state_dict()[name], old, equal_nan=True)
    with pytest.raises(NonFiniteError, match=r"scores of \d+ of \d+ questions are not finite"):
        trainer.evaluate()


def test_a_label_that_is_no_number_is_named(make_trainer):
    trainer = make_trainer(of_task("count"), per_device_train_batch_size=3, max_steps=5)
    questions = trainer.train_dataset.questions
    questions[1] = replace(questions[1], answer=NAN)
    with pytest.raises(NonFiniteError, match=f"about {questions[1].video}") as raised:
        trainer.train()
    assert questions[0].video not in str(raised.value)


def test_an_infinite_loss_with_a_finite_gradient_stops_the_run(make_trainer):
    trainer = make_trainer(of_task("count"), config={"alpha": 0.0}, max_grad_norm=0.0, optim="sgd")
    with torch.no_grad():
        trainer.model.heads["count"][-1].bias.fill_(1e25)  # its square is infinite, twice it is not
    with pytest.raises(NonFiniteError, match="loss inf"):
        trainer.train()


def test_a_gradient_that_is_no_number_stops_the_run(make_trainer):
    trainer = make_trainer(of_task("open_ended"))
    trainer.model.heads["open_ended"][-1].bias.register_hook(lambda gradient: gradient * NAN)
    with pytest.raises(NonFiniteError, match="norm of its gradient is nan"):
        trainer.train()


def test_a_step_later_in_the_run_is_named_and_the_last_checkpoint_stays(make_trainer, tmp_path):
    trainer = make_trainer(
        of_task("open_ended"),
        max_steps=9,
        save_strategy="steps",
        save_steps=1,
        learning_rate=1e30,
        optim="sgd",
        warmup_steps=2,
        max_grad_norm=0.0,
    )
    with pytest.raises(NonFiniteError, match=r"step [23] |the trained model"):
        trainer.train()
    SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "out" / "checkpoint-1")


def test_a_checkpoint_with_nan_is_refused_by_the_parameters_name(make_trainer, tmp_path):
    trainer = make_trainer(max_steps=2, save_strategy="steps", save_steps=1)
    trainer.train()
    path = tmp_path / "out" / "checkpoint-2" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.text_model.pooler.dense.bias"][3] = NAN
    save_file(tensors, path, metadata={"format": "pt"})
    sentence = r"model.text_model.pooler.dense.bias in .*checkpoint-2 has NaN or infinite values"
    with pytest.raises(NonFiniteError, match=sentence):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(path.parent)
    with pytest.raises(NonFiniteError, match=sentence):
        make_trainer(max_steps=3).train(resume_from_checkpoint=str(path.parent))


def test_an_adapter_with_nan_is_refused(make_trainer, tmp_path):
    model = make_trainer().model
    model.save_pretrained(tmp_path / "base")
    model.name_or_path = str(tmp_path / "base")
    adapted = add_lora(model, 2)
    adapted.save_pretrained(tmp_path / "adapter")
    model.config.save_pretrained(tmp_path / "adapter")
    SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "lora_A" in name)
    tensors[name][0, 0] = INF
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(NonFiniteError, match="lora_A"):
        SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path / "adapter")


def test_weights_that_are_no_numbers_are_never_saved(make_trainer, tmp_path):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.heads["count"][1].weight[0, 0] = NAN
    with pytest.raises(NonFiniteError, match="heads.count.1.weight in the trained model"):
        trainer.save_model(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_metric_that_is_no_number_is_never_the_best(make_trainer):
    trainer = make_trainer(
        of_task("open_ended"),
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="mine",
        greater_is_better=True,
        trainer={"compute_metrics": lambda _: {"mine": [0.5, NAN, INF][trainer.state.global_step - 1]}},
    )
    trainer.train()
    assert trainer.state.best_global_step == 1 and trainer.state.best_metric == 0.5


def test_weights_that_a_checkpoint_lacks_are_not_made_up(tiny_config, tmp_path):
    SiaSamReaForVideoQuestionAnswering(tiny_config()).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    headless = {name: value for name, value in weights.items() if not name.startswith("heads.")}
    save_file(headless, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert SiaSamReaForVideoQuestionAnswering.from_pretrained(tmp_path).heads  # they start anew
    renamed = {f"module.{name}": value for name, value in weights.items()}
    save_file(renamed, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for model_class in (SiaSamReaForVideoQuestionAnswering, SiaSamReaModel):
        with pytest.raises(ValueError, match=r"lacks \d+ weights of the network, such as"):
            model_class.from_pretrained(tmp_path)
