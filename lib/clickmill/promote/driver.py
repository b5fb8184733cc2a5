"""What the judge wrote of a day → the gate's verdict → one more row of `decisions`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from clickmill.champion import Promotion, champion, contenders, promotions
from clickmill.config import Config
from clickmill.errors import MissingTableError, UsageError
from clickmill.gate import Rule, refused, to_rows
from clickmill.models import artifact
from clickmill.promote.evidence import Evidence, rules
from clickmill.schema import LAST_STAGE
from clickmill.scoring import Contender
from clickmill.split import Stretch
from clickmill.tables import Tables, Written

PREVIOUS = "previous"
"""What --rollback calls the champion before this one."""


class Verdict(NamedTuple):
    """One more row of `decisions`, unless nothing changes."""

    ds: date
    challenger: Contender
    before: Contender | None
    rules: tuple[Rule, ...]
    number: int
    """Of the promotion that this is, if it is one."""
    is_champion: bool = False
    """Whether the challenger has the place already, so that there is nothing to decide."""

    @property
    def failed(self) -> list[Rule]:
        """The rules that refuse."""
        return refused(self.rules)

    @property
    def promoted(self) -> bool:
        """Whether the challenger takes the place."""
        return not self.failed and not self.is_champion

    @property
    def after(self) -> Contender | None:
        """The champion from now on."""
        return self.before if self.failed else self.challenger

    @property
    def sentences(self) -> list[str]:
        """The verdict for people: the outcome, then every rule with its figures."""
        one, other = self.challenger.model_id, self.before and self.before.model_id
        if self.is_champion:
            return [f"{one} is the champion already"]
        if self.failed:
            stays = f"{other} stays the champion" if other else "there is no champion"
            outcome = f"{one} is refused, {stays}"
        else:
            outcome = f"{one} is the champion now" + (f", in place of {other}" if other else ", the first")
        return [outcome, *(rule.sentence for rule in self.rules)]

    def for_json(self) -> dict[str, Any]:
        """The verdict as `--json` shows it."""
        return {
            "promoted": self.promoted,
            "challenger": self.challenger.model_id,
            "champion_before": self.before and self.before.model_id,
            "champion": self.after and self.after.model_id,
            "sentences": self.sentences,
            "rules": to_rows(self.rules),
        }

    def row(self, run_id: str) -> dict[str, Any]:
        """The row of `decisions`."""
        return {
            "ds": self.ds,
            "at": datetime.now(UTC),
            "run_id": run_id,
            "challenger": self.challenger.model_id,
            "challenger_digest": self.challenger.digest,
            "champion_before": self.before and self.before.model_id,
            "champion_before_digest": self.before and self.before.digest,
            "champion": self.after and self.after.model_id,
            "champion_digest": self.after and self.after.digest,
            "champion_model": self.after and self.after.to_json(),
            "promoted": self.promoted,
            "promotion": self.number if self.promoted else None,
            "rules": json.dumps(to_rows(self.rules)),
        }


def challenge(tables: Tables, cfg: Config, ds: date, models: Sequence[str], test: Stretch) -> Verdict:
    """The verdict on that one of the models by these names whose NE on test time is lowest.

    Raises MissingTableError where one of them, or the champion, was not judged on this day as it is now.
    """
    before, number = champion(tables, ds), _next(promotions(tables))
    judged = {one.digest: _evidence(tables, ds, one) for one in contenders(tables, ds, models)}
    own = list(judged.values())[: len(models)]
    best = min(own, key=lambda one: one.ne)
    if before is not None and before.digest == best.model.digest:
        return Verdict(ds, best.model, before, (), number, is_champion=True)
    holder = judged[before.digest] if before is not None else None
    found = rules(best, holder, cfg, test_from=test.start)
    return Verdict(ds, best.model, before, found, number)


def rollback(tables: Tables, ds: date, to: str) -> Verdict:
    """The verdict that puts an earlier champion back: one by its model id, or the one before this one.

    Raises UsageError where there is none such, ArtifactError where its artifact does not load.
    """
    before, made = champion(tables, ds), promotions(tables)
    if before is None:
        raise UsageError(f"--rollback {to}: there is no champion as of {ds}")
    past = [one.champion for one in made if one.ds <= ds and one.champion.digest != before.digest]
    asked = [one for one in past if to in (PREVIOUS, one.model_id)]
    if not asked:
        known = ", ".join(dict.fromkeys(one.model_id for one in past)) or "none"
        raise UsageError(
            f"--rollback {to}: no such champion before {before.model_id}; there were {known} (or write {PREVIOUS})"
        )
    chosen = asked[-1]
    artifact.load(Path(chosen.artifact))
    said = f"{chosen.model_id} is put back by --rollback {to}: passed"
    return Verdict(ds, chosen, before, (Rule("rollback", True, said, {}),), _next(made))


def record(tables: Tables, verdict: Verdict) -> Written | None:
    """Writes the verdict; None where it changes nothing, or refuses in the very words of an earlier run.

    Raises ConflictError where another promotion was made since the champion was looked up.
    """
    row = verdict.row(tables.run_id)
    if verdict.is_champion or (verdict.failed and _stands(tables, row)):
        return None
    return tables.append("decisions", [row], number=verdict.number if verdict.promoted else None)


def _next(made: Sequence[Promotion]) -> int:
    return max((one.number for one in made), default=0) + 1


def _stands(tables: Tables, row: Mapping[str, Any]) -> bool:
    """Whether the same was decided on that day before."""
    own = row.keys() - {"at", "run_id"}
    past = tables.rows_if_any("decisions", days=[row["ds"]])
    return any(all(old[name] == row[name] for name in own) for old in past)


def _evidence(tables: Tables, ds: date, one: Contender) -> Evidence:
    own: dict[str, Any] = {"days": [ds], "where": {"model_id": [one.model_id]}}
    fitted = [row for row in tables.rows_if_any("calibrations", **own) if row["artifact"] == one.digest]
    ids = [row["calibration_id"] for row in fitted]
    replicates = [row for row in tables.rows_if_any("replicates", **own) if row["calibration_id"] in ids]
    if not replicates:
        raise MissingTableError(
            f"{tables.path('replicates')}: {one.model_id} was not judged on {ds} as it is now, with intervals; "
            "run `calibrate` and `evaluate` (with judge.replicates above 0)"
        )
    last = {"model_id": [one.model_id], "stage": [LAST_STAGE]}
    return Evidence.of(one, tables.rows_if_any("metrics", days=[ds], where=last), replicates, fitted[0])
