"""raw rows → p: scores the rows of --ds (or `score.input`) with one model, into Parquet or Delta files."""

from clickmill.job import Job, Run
from clickmill.score.driver import score, target


def main(run: Run) -> None:
    aim, cfg = target(run.tables, run.cfg, ds=run.ds, names=run.models), run.cfg.score
    scored = score(
        run.tables,
        model=aim.model,
        path=aim.input,
        days=run.days,
        calibration=cfg.calibration,
        ignore_extra=cfg.ignore_extra,
    )
    counts = aim.write(scored, dry_run=run.dry_run)
    run.count(rows_in=counts.rows, rows_out=counts.rows - counts.refused, rejected=counts.refused)
    run.result |= {"model": str(aim.model), "scores": aim.output}


JOB = Job("score", main, works_on="rows")

if __name__ == "__main__":
    JOB.run()
