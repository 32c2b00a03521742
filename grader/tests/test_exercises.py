"""The course is read from its folders."""

import pytest

from grader.exercises import CourseError, Exercise, exercises, find


def test_exercises_come_in_learning_order() -> None:
    paths = [(exercise.section, exercise.name) for exercise in exercises()]

    assert paths == sorted(paths)
    assert ("01_api_basics", "01_crud_api") in paths


@pytest.mark.parametrize("name", ["01_crud_api", "01_api_basics/01_crud_api", "01_api_basics/01_crud_api/"])
def test_an_exercise_is_found_by_name_or_path(name: str) -> None:
    assert find(name).name == "01_crud_api"


@pytest.mark.parametrize("name", ["01_crud", "crud_api", "01_crudapi", "01-crud-api"])
def test_an_unknown_name_is_answered_with_the_nearest(name: str) -> None:
    with pytest.raises(CourseError, match="did you mean 01_crud_api"):
        find(name)


def test_a_name_like_no_other_is_answered_with_where_to_look() -> None:
    with pytest.raises(CourseError, match="nox --list"):
        find("zzz")


@pytest.mark.parametrize("exercise", exercises(), ids=lambda exercise: exercise.name)
def test_every_requirement_has_a_sentence(exercise: Exercise) -> None:
    assert exercise.requirements
    for requirement in exercise.requirements.values():
        assert len(requirement.sentence) > 10
        assert not requirement.sentence.endswith(".")
