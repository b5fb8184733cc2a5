from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from score_models import PLATT, expected, rows, save_model, write_calibration

from clickmill.calibration import Calibrator
from clickmill.errors import ArtifactError, KeepRateError
from clickmill.score.scorer import load


def columns(some: list[tuple[str, str, str]]) -> dict[str, pa.Array]:
    return {
        name: pa.array(list(values))
        for name, values in zip(("site", "ad", "price"), zip(*some, strict=True), strict=True)
    }


def test_p_is_the_margin_corrected_for_the_sampling_and_calibrated(tmp_path):
    some = rows(60)
    scores = load(save_model(tmp_path)).score(columns(some))
    wanted = np.array([expected(site, ad, float(price) if price else None) for site, ad, price in some])
    np.testing.assert_allclose(scores.p_sampled, wanted[:, 0], rtol=1e-12)
    np.testing.assert_allclose(scores.p, wanted[:, 1], rtol=1e-12)
    assert len(set(scores.p)) > 30


def test_text_and_typed_columns_give_the_same(tmp_path):
    scorer, some = load(save_model(tmp_path)), rows(50)
    typed = columns(some) | {"price": pa.array([float(price) if price else None for *_, price in some])}
    typed["site"] = pa.array([site or None for site, *_ in some])
    np.testing.assert_array_equal(scorer.score(columns(some)).p, scorer.score(typed).p)


def test_only_what_the_model_eats_is_needed(tmp_path):
    assert load(save_model(tmp_path)).needed == ("site", "ad", "price")


def test_a_number_that_is_none_refuses_its_row_and_no_other(tmp_path):
    scores = load(save_model(tmp_path)).score(columns([("s1", "a1", "1,5"), ("s1", "a1", "5")]))
    assert scores.reason.tolist() == ["bad_number:price", None]
    assert np.isnan([scores.p[0], scores.p_sampled[0]]).all()
    assert scores.p[1] == pytest.approx(expected("s1", "a1", 5.0)[1], rel=1e-12)


def test_a_model_trained_with_weights_is_not_corrected(tmp_path):
    scorer = load(save_model(tmp_path, correction="weight"), calibration="none")
    scores = scorer.score(columns(rows(5)))
    np.testing.assert_array_equal(scores.p, scores.p_sampled)


def test_without_calibration_p_is_corrected_alone(tmp_path):
    scores = load(save_model(tmp_path, calibrator=None), calibration="none").score(columns([("s1", "a1", "5")]))
    assert scores.p[0] == pytest.approx(expected("s1", "a1", 5.0, calibrator=Calibrator("platt"))[1], rel=1e-12)


def test_a_model_without_a_keep_rate_does_not_score(tmp_path):
    with pytest.raises(KeepRateError) as caught:
        load(save_model(tmp_path, keep_rate=None))
    assert caught.value.exit_code == 3


def test_a_missing_calibration_is_not_passed_over_in_silence(tmp_path):
    with pytest.raises(ArtifactError, match="--calibration none"):
        load(save_model(tmp_path, calibrator=None))


def test_a_calibration_of_another_artifact_is_refused(tmp_path):
    folder = save_model(tmp_path)
    write_calibration(folder / "calibration.json", PLATT, digest="another")
    with pytest.raises(ArtifactError, match="is of artifact another"):
        load(folder)


def test_each_artifact_of_a_model_id_has_its_own_calibration(tmp_path):
    folder, other = save_model(tmp_path), Calibrator("platt", slope=0.5, shift=-0.25)
    (first,) = (path.name for path in folder.iterdir() if path.is_dir())
    save_model(tmp_path, intercept=-2.0, calibrator=None)
    (second,) = {path.name for path in folder.iterdir() if path.is_dir()} - {first}
    write_calibration(folder / f"calibration-{first}.json", PLATT, digest=first)
    for name in (f"calibration-{second}.json", "calibration.json"):
        write_calibration(folder / name, other, digest=second)
    assert [load(folder / digest).calibrator for digest in (first, second)] == [PLATT, other]
    assert load(folder).calibrator == other


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"calibrator": {"method": "magic"}}'])
def test_what_is_no_calibration_is_refused(tmp_path, text):
    folder = save_model(tmp_path)
    (folder / "calibration.json").write_text(text)
    with pytest.raises(ArtifactError):
        load(folder)


def test_a_calibration_file_can_be_named(tmp_path):
    folder = save_model(tmp_path, calibrator=None)
    (digest,) = (path.name for path in folder.iterdir())
    write_calibration(tmp_path / "mine.json", PLATT, digest=digest)
    scores = load(folder, calibration=str(tmp_path / "mine.json")).score(columns([("s1", "a1", "5")]))
    assert scores.p[0] == pytest.approx(expected("s1", "a1", 5.0)[1], rel=1e-12)


def test_the_folder_may_be_that_of_the_model_or_of_its_artifact(tmp_path):
    folder = save_model(tmp_path)
    (inner,) = (path for path in folder.iterdir() if path.is_dir())
    assert load(inner).score(columns(rows(9))).p.tolist() == load(folder).score(columns(rows(9))).p.tolist()
    with pytest.raises(ArtifactError, match="there is no model"):
        load(tmp_path / "nothing")


def test_of_several_artifacts_the_calibrated_one_is_taken(tmp_path):
    folder = save_model(tmp_path)
    save_model(tmp_path, intercept=-2.0, calibrator=None)
    assert load(folder).score(columns([("s1", "a1", "5")])).p[0] == pytest.approx(expected("s1", "a1", 5.0)[1])
    (folder / "calibration.json").write_text(json.dumps({"calibrator": PLATT.to_dict()}))
    with pytest.raises(ArtifactError, match="several artifacts"):
        load(folder)
