//! Loads modules and tries them, on a thread of its own: what comes of it is fit to run, or a refusal. Nothing is changed here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Deployed, Refusal, RouteRollout, Second, Tried};
use crate::config::{RouteSettings, TransformSettings};
use crate::lane::trial;
use crate::metrics::SwapResult;
use crate::source::RecordBatch;
use crate::transform::{Guest, Module, signature_file};

/// Files that are read again although their section is what runs. Each of both modules has its own: after a rollback the first one's file holds
/// another module, and may be named as the second.
#[derive(Clone, Default)]
pub(super) struct Again {
    pub(super) first: BTreeSet<PathBuf>,
    pub(super) second: BTreeSet<PathBuf>,
}

impl Again {
    /// Files that have changed, whoever runs them.
    pub(super) fn changed(files: &BTreeSet<PathBuf>) -> Self {
        Self { first: files.clone(), second: files.clone() }
    }
}

/// Modules that are fit, and how that was seen.
pub(super) struct Prepared {
    pub(super) next: Deployed,
    pub(super) tried: Tried,
    pub(super) result: SwapResult,
    /// Targets that are no longer written.
    pub(super) left_out: Vec<String>,
    /// Why the second module stays away: no reason to keep the first one back.
    pub(super) second_refused: Option<Refusal>,
}

/// The modules of a transform section, where they are not what runs.
pub(super) fn prepare(
    rollout: &RouteRollout,
    wanted: TransformSettings,
    again: &Again,
    recent: &[RecordBatch],
) -> Result<Option<Prepared>, Refusal> {
    let current = rollout.deployed();
    let first = TransformSettings { shadow: None, ..wanted.clone() };
    let running = TransformSettings { shadow: None, ..current.route.transform.clone() };
    let is_current = first == running && !files(&first).any(|file| again.first.contains(&file));
    let (module, tried) =
        if is_current { (Arc::clone(&current.module), Tried::Runs) } else { prepare_first(&current, first, rollout, recent)? };
    let route = with_transform(&current.route, wanted);
    let (second, second_refused) = match prepare_second(&current, &route, &again.second, rollout) {
        Ok(second) => (second, None),
        Err(refusal) => (current.second.clone(), Some(refusal)),
    };
    let address = |second: &Option<Arc<Second>>| second.as_ref().map(Arc::as_ptr);
    let left_out = match &second {
        _ if !Arc::ptr_eq(&module, &current.module) => left_out(&current, &route, &module, rollout, recent),
        second if address(second) == address(&current.second) => return second_refused.map_or(Ok(None), Err),
        Some(second) => left_out(&current, &second.route, &second.module, rollout, recent),
        None => Vec::new(),
    };
    let next = current.next(route, module, second);
    Ok(Some(Prepared { next, tried, result: SwapResult::Swapped, left_out, second_refused }))
}

/// The second module as the first. What was compared shows that it is fit, where something was and nothing failed; else it is tried like any other.
pub(super) fn promote(rollout: &RouteRollout, second: &Second, recent: &[RecordBatch]) -> Result<Prepared, Refusal> {
    let current = rollout.deployed();
    let (route, module) = (Arc::clone(&second.route), Arc::clone(&second.module));
    let is_proven = rollout.comparison().shows_that_the_second_is_fit();
    let tried = match is_proven {
        true => Tried::RanBeside,
        false => Tried::Events(try_beside(&current, &route, &module, rollout, recent)?),
    };
    let left_out = left_out(&current, &route, &module, rollout, recent);
    let next = current.next(route, module, None);
    Ok(Prepared { next, tried, result: SwapResult::Promoted, left_out, second_refused: None })
}

/// What the answer says of targets is no reason to refuse a module, and no reason not to know it either.
fn left_out(
    current: &Deployed,
    route: &Arc<RouteSettings>,
    module: &Arc<Module>,
    rollout: &RouteRollout,
    recent: &[RecordBatch],
) -> Vec<String> {
    trial::left_out((&current.route, &current.module), (route, module), rollout.sinks(), recent).unwrap_or_else(|error| {
        tracing::warn!(route = route.name, error = %error, "it is not known which targets the module leaves out");
        Vec::new()
    })
}

/// The module, and what shows that it is fit.
fn prepare_first(
    current: &Deployed,
    first: TransformSettings,
    rollout: &RouteRollout,
    recent: &[RecordBatch],
) -> Result<(Arc<Module>, Tried), Refusal> {
    let module = current.module.host().load(&first)?;
    if module.digest == current.module.digest && first == (TransformSettings { shadow: None, ..current.route.transform.clone() }) {
        return Ok((Arc::clone(&current.module), Tried::Runs));
    }
    let tried = try_beside(current, &with_transform(&current.route, first), &module, rollout, recent)?;
    Ok((module, Tried::Events(tried)))
}

/// How many recent events show that the module is fit.
fn try_beside(
    current: &Deployed,
    route: &Arc<RouteSettings>,
    module: &Arc<Module>,
    rollout: &RouteRollout,
    recent: &[RecordBatch],
) -> Result<usize, Refusal> {
    let file = route.transform.module.to_string();
    let tried = trial::attempt(route, module, rollout.sinks(), recent)?;
    let all_rejected = tried.answered > 0 && tried.rejected >= tried.answered;
    if tried.failed.is_empty() && !all_rejected {
        return Ok(tried.events);
    }
    let before = trial::attempt(&current.route, &current.module, rollout.sinks(), recent)?;
    let failed = tried.failed_beside(&before);
    if let Some((place, error)) = failed.first() {
        return Err(Refusal::Trial { module: file, tried: tried.events, failed: failed.len(), place: place.clone(), error: error.clone() });
    }
    if all_rejected && before.rejected < before.answered {
        return Err(Refusal::AllRejected { module: file, tried: tried.rejected, error: tried.first_reject.unwrap_or_default() });
    }
    Ok(tried.events)
}

/// The second module that the route names; what it does with events is seen while it is compared.
fn prepare_second(
    current: &Deployed,
    route: &RouteSettings,
    changed: &BTreeSet<PathBuf>,
    rollout: &RouteRollout,
) -> Result<Option<Arc<Second>>, Refusal> {
    let Some(shadow) = &route.transform.shadow else { return Ok(None) };
    let same = |second: &&Arc<Second>| second.route.transform == shadow.transform && second.canary_percent == shadow.canary_percent;
    let running = current.second.as_ref().filter(same);
    if let Some(running) = running
        && !files(&shadow.transform).any(|file| changed.contains(&file))
    {
        return Ok(Some(Arc::clone(running)));
    }
    let module = current.module.host().load(&shadow.transform)?;
    if let Some(running) = running.filter(|running| running.module.digest == module.digest) {
        return Ok(Some(Arc::clone(running)));
    }
    let route = with_transform(route, shadow.transform.clone());
    drop(Guest::new(Arc::clone(&module), Arc::clone(&route), rollout.sinks())?);
    Ok(Some(Arc::new(Second { route, module, canary_percent: shadow.canary_percent })))
}

fn with_transform(route: &RouteSettings, transform: TransformSettings) -> Arc<RouteSettings> {
    Arc::new(RouteSettings { transform, ..route.clone() })
}

/// The files of a transform section. What is in a registry never changes under its reference.
pub(super) fn files(transform: &TransformSettings) -> impl Iterator<Item = PathBuf> + use<> {
    let second = transform.shadow.as_ref().map(|shadow| &shadow.transform);
    let all = std::iter::once(transform).chain(second).flat_map(|transform| {
        let module = transform.module.file();
        let signature = module.filter(|_| transform.signature_key.is_some()).map(signature_file);
        module.map(Path::to_owned).into_iter().chain(signature)
    });
    all.collect::<Vec<_>>().into_iter()
}
