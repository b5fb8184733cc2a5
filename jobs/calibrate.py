"""features of validation time → calibrations: what is left to correct after the sampling is undone.

For every model of the day by --models, and for the champion.
"""

from clickmill.calibrate.driver import calibrate
from clickmill.champion import contenders
from clickmill.histories.driver import informed
from clickmill.job import Job, Run


def main(run: Run) -> None:
    stretch = run.stretches().validation
    judged = contenders(run.tables, run.ds, run.models)
    with informed(run.tables, run.cfg, judged, stretch) as known:
        calibrated = calibrate(run.tables, known, stretch=stretch, conf=run.cfg.calibration)
    rows = [one.row(run.ds, run.run_id) for one in calibrated]
    ids = [row["model_id"] for row in rows]
    written = run.tables.write("calibrations", rows, replace={"ds": run.ds, "model_id": ids})
    for one in calibrated:
        run.say(f"{one.contender.model_id}: {one.choice.calibrator.method}, chosen on {one.clicks} clicks")
    if not (run.dry_run or run.is_reproduction):
        for one in reversed(calibrated):  # of two artifacts of one model id the day's own last
            one.write()
    run.count(rows_in=calibrated[0].rows, rows_out=written.rows)


JOB = Job("calibrate", main, works_on="window")

if __name__ == "__main__":
    JOB.run()
