//! `model.generate`: what follows prompts.

use rhai::{Map, NativeCallContext};

use super::model::Model;
use super::{Answer, refuse, told_list, told_map};
use crate::data::opened;
use crate::error::Error;
use crate::eval::generate::{Generation, Stops, generate};
use crate::host::context::{Host, host};
use crate::host::door;
use crate::host::ledger::Event;
use crate::host::options::Options;
use crate::model::Adapter;

fn generation(host: &Host, map: Map) -> Result<Generation, Error> {
    let mut o = Options::new(
        "generate",
        map,
        &["max_tokens", "beams", "temperature", "top_k", "top_p", "stop"],
    )?;
    Ok(Generation {
        max_tokens: o.take_or("max_tokens", 32)?,
        beams: o.take_or("beams", 1)?,
        temperature: o.take_opt("temperature")?,
        top_k: o.take_opt("top_k")?,
        top_p: o.take_opt("top_p")?,
        stop: o.take_or("stop", vec![])?,
        seed: host.settings.seed,
    })
}

/// What follows each prompt.
pub(super) fn texts(
    context: &NativeCallContext,
    model: &Model,
    prompts: &[String],
    options: Map,
) -> Answer<Vec<String>> {
    let host = &*host(context)?;
    let mut arguments = told_map(&options);
    arguments["prompts"] = told_list(prompts.iter().map(|prompt| prompt.as_str().into()).collect());
    arguments["model"] = model.with(|m| m.index.into());
    let generation = generation(host, options).map_err(refuse)?;
    door::call(context, host, "model.generate", arguments).answer(|| {
        model.live(|m| {
            let encode =
                |prompt: &String| Ok(opened(m.tokenizer.as_ref(), m.tokenizer.encode(prompt)?));
            let prompts = prompts.iter().map(encode).collect::<anyhow::Result<Vec<Vec<u32>>>>()?;
            if host.outlook().is_some() {
                Stops::of(&generation.stop, m.tokenizer.as_ref())?;
                host.note(
                    context,
                    Event::Generate { prompts: prompts.len(), tokens: generation.max_tokens },
                )?;
                return Ok(vec![String::new(); prompts.len()]);
            }
            let going = |_| Ok(host.guard.check()?);
            let out = generate(
                &m.network,
                &Adapter::default(),
                &prompts,
                m.tokenizer.as_ref(),
                &generation,
                going,
            )?;
            Ok(out.into_iter().map(|generated| generated.text).collect())
        })
    })
}
