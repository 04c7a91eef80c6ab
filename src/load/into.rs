//! Verifies archives, and loads their images into one target or several.

use std::borrow::Cow;

use super::early::{self, Early, EndDelegation};
use super::{Candidates, Inventory, LoadOptions, Observer, Outcome, Plan, Report, Target};
use crate::archive::{self, Layout};
use crate::error::{Error, Hint, Remedy, Result};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::verify;

/// A [`Target`] of any kind, which keeps its inventory to itself.
pub trait AnyTarget {
    /// Asks what the target has, and decides what is sent, named and attached. Changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Target::probe`] and [`Target::plan`]; [`Error::NotFound`] if the target lacks layers that the archives
    /// leave out, and images with such layers are not skipped; [`Error::Refused`] if the policy does not accept images, and
    /// they are not skipped.
    fn prepare(&self, candidates: &Candidates<'_>, options: &LoadOptions) -> Result<Plan>;

    /// Executes the plan, as [`Target::apply`] does.
    ///
    /// # Errors
    ///
    /// If content could not be sent or is not right on the target. No name was set then. A target that sets each name
    /// with its content, as podman does, has [`Report::error`] if it has loaded some images before.
    fn execute(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report>;

    /// As [`Target::early`].
    fn early_work(&self) -> Early {
        Early::Nothing
    }
}

impl<T: Target> AnyTarget for T {
    fn prepare(&self, candidates: &Candidates<'_>, options: &LoadOptions) -> Result<Plan> {
        let inventory: Inventory<T::Details> = self.probe(candidates, options)?;
        let (mut plan, options) = accepted_plan(self, candidates, Cow::Borrowed(options), &inventory)?;
        let lacking = candidates.lacking(&plan, &inventory);
        if !lacking.is_empty() {
            let options = options.without_lacking(lacking, candidates, &plan.target)?;
            (plan, _) = accepted_plan(self, candidates, Cow::Owned(options), &inventory)?;
        }
        plan.version = inventory.version;
        Ok(plan)
    }

    fn execute(
        &self,
        candidates: &Candidates<'_>,
        plan: &Plan,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<Report> {
        self.apply(candidates, plan, progress, interrupt)
    }

    fn early_work(&self) -> Early {
        self.early()
    }
}

/// A plan of which the policy accepts every image, and the options that it was made by.
fn accepted_plan<'o, T: Target>(
    target: &T,
    candidates: &Candidates<'_>,
    mut options: Cow<'o, LoadOptions>,
    inventory: &Inventory<T::Details>,
) -> Result<(Plan, Cow<'o, LoadOptions>)> {
    loop {
        let mut plan = target.plan(candidates, &options, inventory)?;
        let verdicts = candidates.verdicts(&plan, &options)?;
        let rejected = candidates.rejected(&verdicts);
        if !rejected.is_empty() {
            options = Cow::Owned(options.without_rejected(rejected)?);
            continue;
        }
        for image in &mut plan.images {
            image.policy = verdicts.get(&image.candidate).cloned();
        }
        return Ok((plan, options));
    }
}

/// Loads images of archives into a target, after verifying every byte of the archives.
///
/// # Errors
///
/// [`Error::Unverified`] if an archive is damaged and damaged images are not skipped; the errors of the
/// target's `probe`, `plan` and `apply`; [`Error::Io`] if the target certainly has not enough space. Nothing
/// was named then.
pub fn load<T: Target>(
    target: &T,
    archives: &[Box<dyn Layout>],
    options: &LoadOptions,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Outcome> {
    let targets: [&dyn AnyTarget; 1] = [target];
    let mut outcomes = load_each(&targets, archives, options, observer, progress, interrupt)?;
    outcomes.pop().unwrap_or(Err(Error::Interrupted))
}

/// Loads images of archives into several targets, one after the other. The archives are verified once, and nothing is
/// sent to a target before there is a plan for each.
///
/// The result has an outcome for each target, in their order. A target that fails does not keep the others from being
/// loaded into. After a signal the last outcome is [`Error::Interrupted`], and there are none for the targets after it.
///
/// # Errors
///
/// [`Error::Unverified`] if an archive is damaged and damaged images are not skipped; [`Error::Several`], or the only
/// one, if targets cannot be asked or planned for, or certainly have not enough space. Nothing was sent to any target
/// then.
pub fn load_each(
    targets: &[&dyn AnyTarget],
    archives: &[Box<dyn Layout>],
    options: &LoadOptions,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Vec<Result<Outcome>>> {
    let early = early_work(targets, options);
    let planned = match early {
        Early::Nothing => None,
        _ => planned_early(targets, archives, options, progress, interrupt)?,
    };
    let is_early = planned.is_some();
    let (candidates, plans) = match planned {
        Some(planned) => planned,
        None => {
            let candidates = verified(archives, options, observer, progress, interrupt)?;
            let plans = each_plan(targets, &candidates, options, interrupt)?;
            (candidates, plans)
        }
    };
    plans.iter().for_each(|plan| observer.planned(plan));
    if options.dry_run {
        return Ok(plans.into_iter().map(|plan| Ok(Outcome::Planned(plan))).collect());
    }
    let short: Vec<Error> = plans.iter().filter_map(|plan| plan.check_space().err()).collect();
    if !short.is_empty() {
        return Err(Error::of_several(short));
    }
    let execute = || execute_each(targets, &candidates, &plans, progress, interrupt);
    // What is sent is hashed on its way, and that is enough if only digests are to be verified.
    if !is_early || options.verify.quick {
        return Ok(execute());
    }
    let (outcomes, reports) = early::verified_while(&candidates, archives, options, early, execute);
    match reports {
        Err(Error::Interrupted) => Ok(outcomes),
        reports => {
            for report in reports? {
                usable(report, false, observer)?;
            }
            Ok(outcomes)
        }
    }
}

/// What targets do while the archives are still being verified. That ends at the first damage, so nothing if damaged
/// images are to be skipped.
fn early_work(targets: &[&dyn AnyTarget], options: &LoadOptions) -> Early {
    let of_each: Vec<Early> = targets.iter().map(|target| target.early_work()).collect();
    if options.keep_going || options.dry_run || of_each.contains(&Early::Nothing) {
        return Early::Nothing;
    }
    match (of_each.contains(&Early::Unpacks), options.verify.quick) {
        (true, true) => Early::Nothing,
        (true, false) => Early::Unpacks,
        (false, _) => Early::Sends,
    }
}

/// The images of archives before their layers are verified, and plans for them. `None` if all is to be verified first:
/// documents are damaged, or only the sizes of uncompressed layers tell whether a target has enough space.
fn planned_early<'a>(
    targets: &[&dyn AnyTarget],
    archives: &'a [Box<dyn Layout>],
    options: &LoadOptions,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Option<(Candidates<'a>, Vec<Plan>)>> {
    let Some(candidates) = early::followed(archives, options, progress, interrupt)? else {
        return Ok(None);
    };
    let plans = each_plan(targets, &candidates, options, interrupt)?;
    let has_enough = plans.iter().all(Plan::has_ample_space);
    Ok(has_enough.then_some((candidates, plans)))
}

/// Executes the plans one after the other.
fn execute_each(
    targets: &[&dyn AnyTarget],
    candidates: &Candidates<'_>,
    plans: &[Plan],
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Vec<Result<Outcome>> {
    let mut outcomes = Vec::new();
    for (target, plan) in targets.iter().zip(plans) {
        let report = {
            let _end = EndDelegation(candidates);
            target.execute(candidates, plan, progress, interrupt)
        };
        let is_interrupted = matches!(report, Err(Error::Interrupted));
        outcomes.push(report.map(Outcome::Loaded));
        if is_interrupted {
            break;
        }
    }
    outcomes
}

/// A plan for each target, or why there is none for some of them.
fn each_plan(
    targets: &[&dyn AnyTarget],
    candidates: &Candidates<'_>,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Vec<Plan>> {
    let mut plans = Vec::new();
    let mut errors: Vec<Error> = Vec::new();
    for target in targets {
        interrupt.check()?;
        match target.prepare(candidates, options) {
            Ok(plan) => plans.push(plan),
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            // An image that is not in the archives is missing for each target.
            Err(error) if errors.iter().any(|known| known.to_string() == error.to_string()) => {}
            Err(error) => errors.push(error),
        }
    }
    match errors.is_empty() {
        true => Ok(plans),
        false => Err(Error::of_several(errors)),
    }
}

/// The images of archives, after verifying them.
fn verified<'a>(
    archives: &'a [Box<dyn Layout>],
    options: &LoadOptions,
    observer: &mut dyn Observer,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Candidates<'a>> {
    let mut reports = Vec::new();
    for archive in archives {
        let mut found = archive::verify(archive.as_ref(), &options.verify, progress, interrupt)?;
        if !options.keep_going {
            found = usable(found, false, observer)?;
        }
        reports.push(found);
    }
    let has_whole = reports.iter().any(has_whole);
    let mut candidates = Candidates::default();
    for (archive, found) in archives.iter().zip(reports) {
        candidates.add(archive.as_ref(), &usable(found, has_whole, observer)?)?;
    }
    candidates.forget_replaced();
    Ok(candidates)
}

/// Refuses a damaged archive, unless its damaged images are skipped.
fn usable(found: verify::Report, is_skipped: bool, observer: &mut dyn Observer) -> Result<verify::Report> {
    if found.is_good() {
        return Ok(found);
    }
    observer.damaged(&found, !is_skipped);
    if is_skipped {
        return Ok(found);
    }
    let has_whole = has_whole(&found);
    found.into_good().map_err(|error| match error {
        Error::Unverified { place, count, .. } if has_whole => Error::Unverified {
            place,
            count,
            hint: Some(Hint::from("nothing was loaded").and(Remedy::KeepGoing)),
        },
        other => other,
    })
}

/// Whether an archive has an image without errors.
fn has_whole(found: &verify::Report) -> bool {
    found.images.iter().any(|image| image.is_good)
}
