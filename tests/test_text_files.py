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


@pytest.mark.parametrize("header", ["text, label", " text ;label\xa0", "\ttext\tlabel".lstrip()])
def test_spaces_around_the_names_of_columns(tmp_path, header):
    separator = next(mark for mark in ",;\t" if mark in header)
    rows = [f"buy {chr(97 + k)}{separator}{'yn'[k % 2]}" for k in range(20)]
    data = labelled_messages(saved(tmp_path, "\n".join([header, *rows])), "text", "label")
    assert data.metadata["messages"] == 20 and data.classes == ("n", "y")


def test_texts_of_a_file(tmp_path):
    assert read_texts(saved(tmp_path, 'text;n\nbuy;1\n"a;\nb";2\n'), "text") == ["buy", "a;\nb"]
    fails(["own.csv", "first line", "column message", "text, n"], read_texts, tmp_path / "own.csv", "message")
    assert read_texts(saved(tmp_path, "buy, now\n\nsell\n", name="own.txt"), "text") == ["buy, now", "", "sell"]
    separated = "buy the\u2028dip\x0b!\r\nsell\n"  # by what ends lines for Unicode, but not in tables
    assert read_texts(saved(tmp_path, separated, name="own.txt"), "text") == ["buy the\u2028dip\x0b!", "sell"]
    (tmp_path / "own.TXT.gz").write_bytes(gzip.compress(b"buy\nsell"))
    assert read_texts(tmp_path / "own.TXT.gz", "text") == ["buy", "sell"]
    fails("absent.txt", read_texts, tmp_path / "absent.txt", "text")
    fails(["own.txt", "found none"], read_texts, saved(tmp_path, "", name="own.txt"), "text")
    unquoted = saved(tmp_path, "text\nbuy\nbuy, now\n")
    fails(["own.csv, line 3: expected 1 fields, found 2", "needs quotation marks"], read_texts, unquoted, "text")


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_quotation_mark_swallows_no_rows(tmp_path, capsys, separator):
    """A text that begins with one, in a file without quoting: up to the next one, rows would be one text."""
    rows = [f"{i}{separator}{'no' if i % 2 else 'yes'}{separator}words {chr(97 + i)}" for i in range(20)]
    rows[3], rows[17] = f'3{separator}no{separator}"buy the dip', f'17{separator}no{separator}said so" today'
    path = saved(tmp_path, "\n".join([separator.join(("id", "label", "text")), *rows]) + "\n")
    table = read_columns(path, ("text", "label"))
    assert len(table) == 20 and table.index.tolist() == list(range(2, 22))
    assert table["text"].tolist()[3] == '"buy the dip' and table["text"].tolist()[17] == 'said so" today'
    notice = capsys.readouterr().err
    assert "parts of the texts, each of 21 lines as a row; if they enclosed texts, there would be 7 rows" in notice
    path.write_text(path.read_text().replace('so"', "so"))  # it is never closed
    assert len(read_columns(path, ("text", "label"))) == 20 and "each of 21 lines as a row" in capsys.readouterr().err
    # with a text in quotation marks beside them, each line is still a row
    path.write_text(path.read_text().replace("words b", f'"words{separator} b ""now"""'))
    assert read_columns(path, ("text", "label"))["text"].tolist()[1] == f'words{separator} b "now"'


def test_texts_of_several_lines(tmp_path, capsys):
    path = saved(tmp_path, 'id,text\n1,"a\nb, c"\n2,"d ""e""\n\nf"\n3,g\n')
    table = read_columns(path, ("text",))
    assert table["text"].tolist() == ["a\nb, c", 'd "e"\n\nf', "g"] and table.index.tolist() == [2, 4, 7]
    assert capsys.readouterr().err == ""
    assert read_texts(saved(tmp_path, 'text,n\n"a,\nb",1\nc,2\n'), "text") == ["a,\nb", "c"]
    notice = "texts in quotation marks run over several lines, the longest from 2 to 3"
    assert notice in capsys.readouterr().err  # each line might be a row as well
    broken = saved(tmp_path, 'id,text\n1,"a\n2,b\n3,c\n4\n')
    fails("own.csv, line 2: expected quotation marks around whole cells", read_texts, broken, "text")


def test_texts_of_the_standard_input(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Bär\r\nsell".encode("latin-1"))))
    assert read_texts("-", "text") == ["Bär", "sell"] and "standard input" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x81")))
    fails("standard input", read_texts, "-", "text")
