from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from score_models import dataset, expected, lines, rows, save_model

from clickmill.errors import InputError, MissingColumnsError, NoRowsError, UsageError
from clickmill.score import local


def run(model, text: str | bytes, **options):
    """(lines of output, messages, counts)."""
    sink, messages = io.BytesIO(), io.StringIO()
    data = text.encode() if isinstance(text, str) else text
    counts = local.run(model, io.BytesIO(data), sink, messages, **options)
    return sink.getvalue().decode().splitlines(), messages.getvalue(), counts


def test_each_line_gets_its_p_in_order_and_no_digit_is_lost(tmp_path):
    out, messages, counts = run(save_model(tmp_path), lines(300))
    assert out[0] == "p"
    wanted = [expected(site, ad, float(price) if price else None)[1] for site, ad, price in rows(300)]
    np.testing.assert_allclose([float(line) for line in out[1:]], wanted, rtol=1e-12)
    assert (messages, counts) == ("", (300, 0))


def test_the_label_changes_nothing(tmp_path):
    model = save_model(tmp_path)
    assert run(model, lines(50, label=True))[0] == run(model, lines(50))[0]


def test_lines_that_do_not_fit_keep_their_place_and_are_named_and_counted(tmp_path):
    good = lines(3).splitlines()
    text = "\n".join([good[0], "too\tfew", good[1], "-\ts1\ta1\tcheap\tx", good[2]])
    out, messages, counts = run(save_model(tmp_path), text)
    assert [bool(line) for line in out[1:]] == [True, False, True, False, True]
    assert messages.splitlines() == [
        "clickmill: line 2: wrong_number_of_fields: no p",
        "clickmill: line 4: bad_number:price: no p",
        "clickmill: 2 of 5 lines have no p",
    ]
    assert counts == (5, 2)


def test_of_many_bad_lines_the_first_are_named_and_all_are_counted(tmp_path):
    _, messages, counts = run(save_model(tmp_path), lines(1) + "bad\n" * 250)
    told = messages.splitlines()
    assert len(told) == local.MOST_TOLD + 1
    assert told[-1] == "clickmill: 250 of 251 lines have no p (the first 100 are named above)"
    assert counts.refused == 250


def test_a_stream_of_nothing_but_bad_lines_is_wrong_input(tmp_path):
    with pytest.raises(InputError, match="none of 2 lines") as caught:
        run(save_model(tmp_path), "-\ts\ta\tx\ty\n" * 2)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("text", "error"),
    [("", NoRowsError), ("a\tb\n", MissingColumnsError), ("a\t" * 9 + "\n", MissingColumnsError)],
)
def test_empty_input_and_wrong_columns_write_nothing(tmp_path, text, error):
    sink = io.BytesIO()
    with pytest.raises(error) as caught:
        local.run(save_model(tmp_path), io.BytesIO(text.encode()), sink, io.StringIO())
    assert sink.getvalue() == b""
    assert caught.value.exit_code == 3


KEYED = {"event_id": "key", "source": {"path": "x", "format": "csv", "header": True}}
LOG = 'key,site,ad,price\n"1,""x""",s1,a1,5\nk2,s1,a1,bad\n,s2,a2,\n'


def test_the_logs_own_key_goes_along_in_each_form(tmp_path):
    model = save_model(tmp_path, data=dataset(**KEYED))
    p1, p3 = expected("s1", "a1", 5.0)[1], expected("s2", "a2", None)[1]
    csv, _, _ = run(model, LOG, output="csv")
    assert csv[0] == "event_id,p"
    assert csv[1].startswith('"1,""x""",')
    assert csv[2] == "k2,"
    tsv, _, _ = run(model, LOG)
    assert [line.split("\t")[0] for line in tsv] == ["event_id", '1,"x"', "k2", ""]
    rows = [json.loads(line) for line in run(model, LOG, output="jsonl")[0]]
    assert [row["event_id"] for row in rows] == ['1,"x"', "k2", None]
    assert rows[1]["p"] is None
    np.testing.assert_allclose([rows[0]["p"], rows[2]["p"]], [p1, p3], rtol=1e-12)
    np.testing.assert_allclose(
        [float(csv[1].rsplit(",", 1)[1]), float(tsv[3].split("\t")[1])], [p1, p3], rtol=1e-12
    )


def test_a_keyed_log_may_come_without_its_key(tmp_path):
    model = save_model(tmp_path, data=dataset(**KEYED))
    out, _, _ = run(model, "site,ad,price\ns1,a1,5\n")
    assert out[0] == "event_id\tp"
    assert out[1].startswith("\t0.")


def test_json_lines_without_a_key(tmp_path):
    rows = [json.dumps({"site": "s1", "ad": "a1", "price": 5}), "{broken"]
    out, _, _ = run(save_model(tmp_path), "\n".join(rows), format="jsonl", output="jsonl")
    assert json.loads(out[0])["p"] == pytest.approx(expected("s1", "a1", 5.0)[1], rel=1e-12)
    assert json.loads(out[1]) == {"p": None}


def test_an_unknown_output_is_wrong_usage(tmp_path):
    with pytest.raises(UsageError, match="'xml'"):
        run(save_model(tmp_path), lines(1), output="xml")


def test_many_blocks_give_what_one_gives(tmp_path, monkeypatch):
    model = save_model(tmp_path)
    whole = run(model, lines(500))[0]
    monkeypatch.setattr(local.raw.read, "__kwdefaults__", {"name": "standard input", "chunk": 512})
    assert run(model, lines(500))[0] == whole


def test_neither_spark_nor_scikit_learn_is_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from clickmill.score import local; "
        "local.run(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer, sys.stderr); "
        "heavy = {'pyspark', 'sklearn', 'delta', 'matplotlib'} & set(sys.modules); "
        "sys.exit(' '.join(heavy) if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(save_model(tmp_path))],
        input=lines(3),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 4
