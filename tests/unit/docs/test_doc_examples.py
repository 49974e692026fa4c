"""The examples of the API's page are found, whole and in order."""

import ast

import pytest

from tests.support.doc_examples import LANGUAGES, PAGE, programs

MARKDOWN = """
## Start
```python run
first = 1
```
## `GET /v1/things`
```python run
print(first)
```
```python
not_run()
```
```json
{"## not": "a heading"}
```
### Deeper
````python run
'''
```
'''
````
## Others
```bash run
echo 1
```
"""


def test_a_section_is_one_program_after_the_start() -> None:
    (program,) = programs(MARKDOWN, "python")
    assert program.name == "get_v1_things_python"
    assert program.code == "first = 1\n\nprint(first)\n\n'''\n```\n'''\n\n"


def test_languages_are_apart() -> None:
    (program,) = programs(MARKDOWN, "bash")
    assert (program.section, program.code) == ("Others", "echo 1\n\n")
    assert not programs(MARKDOWN, "typescript")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_every_language_in_the_same_sections(language: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    sections = [program.section for program in programs(page, language)]
    assert sections
    assert sections == [program.section for program in programs(page, "bash")]


def test_the_python_examples_are_python() -> None:
    for program in programs(PAGE.read_text(encoding="utf-8"), "python"):
        ast.parse(program.code)
