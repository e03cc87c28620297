"""Texts of files in the separators and encodings that people have, and one line about what cannot be read."""

import gzip
import io
import sys

import pytest
from conftest import fails

from lstm_studies.loaders.messages import labelled_messages
from lstm_studies.loaders.text_files import read_columns, read_texts

OWN = "\n".join(
    ["id{0}label{0}text", *(f'{i}{{0}}{"no" if i % 2 else "yes"}{{0}}"Bär, {i}; {chr(97 + i)}"' for i in range(20))]
)


def saved(folder, text, encoding="utf-8", name="own.csv"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_separators_and_encodings(tmp_path, capsys, separator, encoding):
    data = labelled_messages(saved(tmp_path, OWN.format(separator), encoding), "text", "label")
    assert data.classes == ("no", "yes") and data.metadata["messages"] == 20
    assert sorted(text for split in data[:3] for text in split.texts)[0] == "Bär, 0; a"
    notice = capsys.readouterr().err
    assert ("NOTICE" in notice and "own.csv" in notice and "Latin-1" in notice) == (encoding == "latin-1")


def test_the_separator_is_the_one_that_gives_the_columns(tmp_path):
    path = saved(tmp_path, '"text";"topics, in short, all"\nbuy, now;"a, b"\n')
    assert read_texts(path, "text") == ["buy, now"]
    assert read_texts(saved(tmp_path, 'text\n"buy, now"\nsell;\n'), "text") == ["buy, now", "sell;"]


def test_what_is_neither_says_how_to_convert(tmp_path):
    fails(["own.csv", "zero bytes", "iconv"], read_texts, saved(tmp_path, OWN, "utf-16-le"), "text")
    path = saved(tmp_path, OWN.replace("ä", "\x81"), "latin-1")
    fails(["own.csv", "UTF-8, UTF-16 with", "or Latin-1", "iconv"], read_texts, path, "text")
    fails(["own.csv", "Excel", "save"], read_texts, saved(tmp_path, "PK\3\4\0\0", "latin-1"), "text")
    path.write_bytes(OWN.encode("utf-16")[:-1])
    fails(["own.csv", "UTF-16"], read_texts, path, "text")


def test_line_ends_and_blank_lines(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        path = saved(tmp_path, OWN.format(",").replace("\n", end) + end * 3)
        assert len(read_columns(path, ("text", "label"))) == 20
    path = saved(tmp_path, OWN.format(",").replace("\n5,", '\n\n"\n\n",') + "\n7,,x")
    fails("own.csv, line 25: expected a label", labelled_messages, path, "text", "label")


def test_texts_of_a_file(tmp_path):
    assert read_texts(saved(tmp_path, 'text;n\nbuy;1\n"a;\nb";2\n'), "text") == ["buy", "a;\nb"]
    fails(["own.csv", "first line", "column message", "text, n"], read_texts, tmp_path / "own.csv", "message")
    assert read_texts(saved(tmp_path, "buy, now\n\nsell\n", name="own.txt"), "text") == ["buy, now", "", "sell"]
    (tmp_path / "own.TXT.gz").write_bytes(gzip.compress(b"buy\nsell"))
    assert read_texts(tmp_path / "own.TXT.gz", "text") == ["buy", "sell"]
    fails("absent.txt", read_texts, tmp_path / "absent.txt", "text")
    fails(["own.txt", "found none"], read_texts, saved(tmp_path, "", name="own.txt"), "text")
    unquoted = saved(tmp_path, "text\nbuy\nbuy, now\n")
    fails(["own.csv", "Expected 1 fields in row 3, saw 2", "needs quotes"], read_texts, unquoted, "text")


def test_texts_of_the_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Bär\r\nsell".encode("latin-1"))))
    assert read_texts("-", "text") == ["Bär", "sell"] and "standard input" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x81")))
    fails("standard input", read_texts, "-", "text")
