//! Words of other programs (PEFT, transformers, TRL, Axolotl), and what is ours for them.

/// Something that other programs have a word for.
#[derive(Debug)]
pub struct Foreign {
    /// Other programs' words, in lower case.
    pub words: &'static [&'static str],
    /// Our option, or parameter of recipes, of the same meaning.
    pub option: Option<&'static str>,
    /// Where that is, as `xgbrun api` names it.
    pub calls: &'static [&'static str],
    /// What a person is told, behind the word.
    pub said: &'static str,
}

/// What is ours for `word`, a word of other programs; `-` counts as `_`.
pub fn foreign(word: &str) -> Option<&'static Foreign> {
    let word = word.trim_start_matches('-').replace('-', "_").to_lowercase();
    FOREIGN.iter().find(|foreign| foreign.words.contains(&word.as_str()))
}

/// Our name, where there is an option for `word` among `known`.
pub(super) fn ours<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let option = foreign(word)?.option?;
    known.into_iter().find(|name| *name == option)
}

const fn option(
    words: &'static [&'static str],
    option: &'static str,
    calls: &'static [&'static str],
    said: &'static str,
) -> Foreign {
    Foreign { words, option: Some(option), calls, said }
}

const fn other(
    words: &'static [&'static str],
    calls: &'static [&'static str],
    said: &'static str,
) -> Foreign {
    Foreign { words, option: None, calls, said }
}

const FIT: &[&str] = &["booster.fit"];
const BOOSTER: &[&str] = &["model.booster"];
const DATA: &[&str] = &["data::load"];
const GENERATE: &[&str] = &["model.generate"];

const FOREIGN: &[Foreign] = &[
    // Adapters.
    option(
        &["lora_alpha"],
        "alpha",
        BOOSTER,
        "is `alpha` of `model.booster`; α/r scales the product, as in PEFT",
    ),
    option(&["lora_r", "lora_rank", "r"], "rank", BOOSTER, "is `rank` of `model.booster`"),
    option(
        &["target_modules", "lora_target_modules", "lora_target", "lora_modules"],
        "targets",
        BOOSTER,
        "is `targets` of `model.booster`, a list of names; all linear modules without it",
    ),
    option(
        &["layers_to_transform", "peft_layers_to_transform", "num_layers"],
        "layers",
        BOOSTER,
        "is `layers` of `model.booster`, a list of indices; `std/policy` draws some",
    ),
    option(
        &["init_lora_weights"],
        "init",
        BOOSTER,
        "is `init` of `model.booster`, and `zero` the factor that begins as 0",
    ),
    other(
        &["modules_to_save", "lora_modules_to_save"],
        BOOSTER,
        "is `head: true` of `model.booster` for a classifier's head; a booster of the kind \
         \"dense\" trains embedding, norms and whole weights",
    ),
    other(
        &["rank_pattern", "alpha_pattern"],
        BOOSTER,
        "has no option of its own: `pairs` of `model.booster` chooses single modules, and each \
         booster has a rank and an alpha",
    ),
    other(
        &["use_rslora", "rslora"],
        BOOSTER,
        "has no option of its own: an `alpha` that is √r times as large gives its scale, α/√r",
    ),
    other(
        &["lora_dropout", "dropout", "attention_dropout", "hidden_dropout_prob"],
        FIT,
        "has no counterpart: there is no dropout; `l2` of `booster.fit` keeps factors small",
    ),
    option(
        &["loraplus_lr_ratio", "lora_plus", "loraplus"],
        "lr_ratio",
        FIT,
        "is `lr_ratio` of `booster.fit`",
    ),
    other(
        &["use_dora", "dora", "peft_use_dora", "loftq", "ia3", "prefix_tuning", "prompt_tuning"],
        BOOSTER,
        "has no counterpart: boosters are pairs of low rank, or dense",
    ),
    other(
        &["get_peft_model", "loraconfig", "peft_type", "adapter", "lora"],
        BOOSTER,
        "is a booster of low rank: `model.booster` makes one, `model.load_adapter` reads one",
    ),
    other(
        &["merge_and_unload", "merge_adapter", "merge_lora"],
        &["model.merge"],
        "is `model.merge`; `xgbrun export RUN --merged DIR` writes the model",
    ),
    // Training.
    option(
        &["learning_rate"],
        "lr",
        &["adamw"],
        "is `lr` of an optimizer, for example `adamw(#{ lr: 1e-3 })`",
    ),
    option(
        &[
            "per_device_train_batch_size",
            "per_gpu_train_batch_size",
            "train_batch_size",
            "batch_size",
            "micro_batch_size",
        ],
        "batch",
        FIT,
        "is `batch` of `booster.fit`",
    ),
    option(
        &["gradient_accumulation_steps", "gradient_accumulation", "grad_accum"],
        "accumulate",
        FIT,
        "is `accumulate` of `booster.fit`, batches a step",
    ),
    option(
        &["max_grad_norm", "gradient_clip_val", "gradient_clipping", "grad_clip"],
        "clip",
        FIT,
        "is `clip` of `booster.fit`; none is usual",
    ),
    option(
        &["num_train_epochs", "num_epochs", "max_steps", "num_train_steps"],
        "steps",
        FIT,
        "is `steps` of `booster.fit` times the rounds of the recipe: training is counted in steps",
    ),
    option(
        &["warmup_ratio", "warmup_steps", "num_warmup_steps"],
        "warmup",
        &["schedule::cosine", "schedule::linear"],
        "is `warmup` of `std/schedule`, in steps of the whole run",
    ),
    other(
        &["lr_scheduler_type", "lr_scheduler", "scheduler"],
        &["schedule::constant", "schedule::cosine", "schedule::linear", "schedule::sgdr"],
        "is an array of learning rates, one a step, as `std/schedule` makes them",
    ),
    option(&["adam_beta1"], "beta1", &["adamw"], "is `beta1` of `adamw`"),
    option(&["adam_beta2"], "beta2", &["adamw"], "is `beta2` of `adamw`"),
    option(&["adam_epsilon"], "eps", &["adamw"], "is `eps` of `adamw`"),
    option(
        &["optim", "adamw_torch", "adam"],
        "optimizer",
        &["booster.fit", "adamw"],
        "is `optimizer` of `booster.fit`: `adamw`, `lion`, `muon` or `sgd`",
    ),
    option(
        &["use_gradient_checkpointing", "activation_checkpointing"],
        "gradient_checkpointing",
        FIT,
        "is `gradient_checkpointing` of `booster.fit`",
    ),
    other(
        &["trainer", "sfttrainer", "finetune"],
        FIT,
        "is what a recipe says: `booster.fit` trains, `model.merge` adds what it trained",
    ),
    option(
        &["n_estimators", "num_boost_round", "iterations"],
        "rounds",
        &["boost::run"],
        "is the number of rounds of the recipe's loop, in most recipes the parameter `rounds`",
    ),
    other(
        &["eval_steps", "eval_strategy", "evaluation_strategy", "evals_per_epoch", "do_eval"],
        &["model.evaluate"],
        "is where the recipe calls `model.evaluate`",
    ),
    other(
        &["load_best_model_at_end", "metric_for_best_model", "greater_is_better"],
        &["model.best_round", "model.truncate"],
        "is `model.truncate(model.best_round())`",
    ),
    option(
        &["early_stopping_patience", "earlystoppingcallback", "early_stopping"],
        "patience",
        &["stop::patience"],
        "is `stop::patience` of `std/stop`",
    ),
    other(
        &["label_smoothing_factor", "label_smoothing", "neftune_noise_alpha"],
        FIT,
        "has no counterpart",
    ),
    // Data.
    option(
        &[
            "max_seq_length",
            "max_seq_len",
            "sequence_len",
            "cutoff_len",
            "block_size",
            "model_max_length",
        ],
        "max_length",
        DATA,
        "is `max_length` of `data::load`, in tokens",
    ),
    other(
        &["packing", "sample_packing", "padding", "pad_to_max_length", "pad_to_sequence_len"],
        DATA,
        "needs no option: the sequences of a batch lie behind each other without padding, and none \
         sees another",
    ),
    option(
        &["chat", "chat_template", "messages", "conversations", "sharegpt", "apply_chat_template"],
        "template",
        DATA,
        "is what `template` of `data::load` words: \"chat\" is the model's own template, and a map \
         with `messages` or `text` words conversations",
    ),
    option(
        &["completion_only_loss", "assistant_only_loss", "train_on_inputs", "mask_prompt"],
        "loss",
        DATA,
        "is `loss` of `data::load`: \"answer\" or \"all\"",
    ),
    other(
        &["dataset_text_field", "text_column", "prompt_template", "field_instruction"],
        DATA,
        "is `template` of `data::load`: a map words any record",
    ),
    option(
        &["dataset", "datasets", "dataset_name", "load_dataset", "train_file", "data_path"],
        "data",
        DATA,
        "is what `data::load` reads; in most recipes the parameter `data`",
    ),
    other(
        &["val_set_size", "test_size", "validation_split"],
        DATA,
        "is no option of ours: without a validation file, items are held out of train",
    ),
    other(&["num_labels", "id2label"], &["model.head"], "is `labels` of `model.head`"),
    other(
        &["task_type", "automodelforsequenceclassification", "problem_type"],
        &["model.head"],
        "is the kind of head that `model.head` gives a model; without one it is a language model",
    ),
    // Models.
    option(
        &[
            "model_name_or_path",
            "model_name",
            "base_model",
            "base_model_name_or_path",
            "from_pretrained",
            "automodelforcausallm",
        ],
        "model",
        &["model::load"],
        "is what `model::load` reads; in most recipes the parameter `model`",
    ),
    other(
        &["save_pretrained", "save_model", "push_to_hub"],
        &["model.save"],
        "is `model.save` in a recipe, or `xgbrun export RUN` afterwards",
    ),
    other(
        &["bf16", "fp16", "tf32", "torch_dtype", "dtype", "mixed_precision"],
        &[],
        "is decided on the command line: `--dtype f32`, `bf16` or `f16` is how weights are stored",
    ),
    other(
        &["load_in_4bit", "load_in_8bit", "bnb_4bit_compute_dtype", "qlora", "quantization"],
        &["model::load"],
        "has no counterpart: weights are f32, bf16 or f16 (`--dtype`), and those of a quantized \
         GGUF file are decoded",
    ),
    option(&["max_new_tokens"], "max_tokens", GENERATE, "is `max_tokens` of `model.generate`"),
    option(&["num_beams", "beam_size"], "beams", GENERATE, "is `beams` of `model.generate`"),
    option(
        &["do_sample"],
        "temperature",
        GENERATE,
        "is what `temperature` of `model.generate` asks for",
    ),
    option(&["stop_strings", "stop_sequences"], "stop", GENERATE, "is `stop` of `model.generate`"),
    // Runs.
    other(
        &["seed", "data_seed", "random_state", "set_seed"],
        &[],
        "is decided on the command line: `--seed N`; `sampler` draws by it",
    ),
    other(
        &["output_dir", "run_name", "output_path"],
        &[],
        "is decided on the command line: `--out DIR` is the run folder",
    ),
    other(
        &[
            "report_to",
            "logging_steps",
            "logging_dir",
            "logging_strategy",
            "wandb",
            "wandb_project",
            "tensorboard",
            "mlflow",
        ],
        &[],
        "needs no option: each step is a line of `metrics.jsonl` in the run folder, and \
         `report.html` shows them",
    ),
    other(
        &["save_steps", "save_strategy", "save_total_limit", "resume_from_checkpoint"],
        &[],
        "needs no option: each booster is kept, and `xgbrun --resume RUN` goes on",
    ),
    other(
        &["dataloader_num_workers", "num_workers", "n_threads", "num_threads"],
        &[],
        "is decided on the command line: `--threads N`",
    ),
    other(
        &["deepspeed", "fsdp", "ddp", "accelerate", "no_cuda", "use_cpu"],
        &[],
        "is decided on the command line: `--device`; a run has one process and one device",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::host::api::entries;

    #[test]
    fn what_is_told_to_be_ours_is_there() {
        let entries = entries().unwrap();
        for Foreign { words, option, calls, said } in FOREIGN {
            let found: Vec<_> = entries.iter().filter(|e| calls.contains(&e.path())).collect();
            for call in *calls {
                assert!(found.iter().any(|e| e.path() == *call), "{words:?}: no `{call}`");
            }
            // A recipe's own parameters stand in no comment.
            if let Some(option) = option.filter(|o| !["rounds", "model", "data"].contains(o)) {
                let text =
                    |e: &&crate::host::Entry| format!("{} {} {}", e.signature, e.doc, e.about);
                assert!(found.iter().any(|e| text(e).contains(option)), "{words:?}: no `{option}`");
            }
            assert!(
                said.starts_with("is ") || said.starts_with("has ") || said.starts_with("need")
            );
        }
    }

    #[test]
    fn a_word_stands_once_and_is_none_of_ours() {
        let names: BTreeSet<String> = entries().unwrap().into_iter().map(|e| e.name).collect();
        let mut seen = BTreeSet::new();
        for word in FOREIGN.iter().flat_map(|f| f.words) {
            assert!(seen.insert(word), "{word} stands twice");
            assert!(!names.contains(*word), "{word} is a name of ours");
            assert_eq!(word.to_lowercase(), **word);
        }
        assert_eq!(ours("--learning-rate", ["rank", "lr"]), Some("lr"));
        assert_eq!(ours("learning_rate", ["rank"]), None);
    }
}
