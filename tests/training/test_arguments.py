"""Training arguments and arguments of the trainer that mean nothing are refused."""

from types import SimpleNamespace

import pytest

from modeling_siasamrea import SiaSamReaTrainer, SiaSamReaTrainingArguments
from modeling_siasamrea.training.arguments import refuse_zero_3
from modeling_siasamrea.video_language.trainer import VideoLanguageTrainingArguments


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"label_smoothing_factor": 2.0}, "label_smoothing_factor must be below 1; got 2.0"),
        ({"label_smoothing_factor": NAN}, "label_smoothing_factor must be a finite number"),
        ({"max_text_length": 0}, "max_text_length must be 3 or more; got 0"),
        ({"learning_rate": NAN}, "learning_rate must be a finite number; got nan"),
        ({"image_encoder_learning_rate": INF}, "image_encoder_learning_rate must be a finite number"),
        ({"image_encoder_learning_rate": -1.0}, "image_encoder_learning_rate must be 0 or more"),
        ({"questions_per_video": 0}, "questions_per_video must be 1 or more"),
        ({"eval_offsets": 0}, "eval_offsets must be 1 or more"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size must be 1 or more"),
        ({"num_train_epochs": NAN}, "num_train_epochs must be a finite number"),
    ],
)
def test_a_number_outside_its_range_gets_a_sentence(tmp_path, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        SiaSamReaTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **arguments)


def test_an_argument_that_was_set_later_is_checked_by_the_trainer(make_trainer):
    trainer = make_trainer()
    trainer.args.learning_rate = NAN
    with pytest.raises(ValueError, match="learning_rate must be a finite number"):
        SiaSamReaTrainer(trainer.model, trainer.args, processing_class=trainer.processing_class)


@pytest.mark.parametrize("of_class", [SiaSamReaTrainingArguments, VideoLanguageTrainingArguments])
def test_the_rate_warms_up_parameters_may_go_unused_and_a_loss_that_is_no_number_is_not_hidden(tmp_path, of_class):
    args = of_class(output_dir=str(tmp_path), use_cpu=True)
    assert args.warmup_steps == 0.1 and args.ddp_find_unused_parameters and not args.logging_nan_inf_filter


def test_texts_end_where_the_text_model_does(make_trainer, monkeypatch):
    with pytest.raises(ValueError, match="max_text_length must be at most 64"):
        make_trainer(max_text_length=65)
    trainer = make_trainer()
    assert trainer.data_collator.max_length == 32  # the tokenizer's
    monkeypatch.setattr(trainer.processing_class.tokenizer, "model_max_length", 10**30)
    assert make_trainer().data_collator.max_length == 64


@pytest.mark.parametrize(
    "name", ["compute_loss_func", "preprocess_logits_for_metrics", "data_collator", "model_init", "processing_class"]
)
def test_what_the_trainer_would_not_use_is_refused(make_trainer, name):
    with pytest.raises(ValueError, match=name):
        make_trainer(trainer={name: None if name == "processing_class" else print})


def test_other_training_arguments_are_refused(make_trainer, tmp_path):
    from transformers import TrainingArguments

    with pytest.raises(ValueError, match="args must be SiaSamReaTrainingArguments; got TrainingArguments"):
        SiaSamReaTrainer(make_trainer().model, TrainingArguments(output_dir=str(tmp_path), use_cpu=True))


@pytest.mark.parametrize(
    "given",
    [
        {"batch_eval_metrics": True},
        {"include_for_metrics": ["loss"]},
        {"prediction_loss_only": True},
        {"dataloader_drop_last": True},
        {"train_sampling_strategy": "group_by_length"},
    ],
)
def test_arguments_without_an_effect_are_refused(make_trainer, given):
    with pytest.raises(ValueError, match=next(iter(given))):
        make_trainer(**given)


def test_zero_3_is_refused():
    for stage in (1, 2):
        refuse_zero_3(SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage)))
    with pytest.raises(ValueError, match="deepspeed .*got ZeRO-3"):
        refuse_zero_3(SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=3)))
