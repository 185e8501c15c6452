"""How a network learns, and from which images: the fields of the groups “learning” and “images”, and nine variants of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import randrange
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.catalog import networks, params, schedule
from core.catalog.params import OPTION_TITLES, PARAMS, TRAIN_PARAMS
from core.errors import Invalid
from core.train import plan
from core.types import Dataset, RunConfig
from pages.parts.train.finder import find_rate
from pages.shared import figures, form, frame

Values = dict[str, Any]
# The others stand under “More”.
FIRST = ("epochs", "learning_rate", "batch_size", "optimizer", "schedule", "patience", "image_size", "flip")
OF_THE_NETWORK = ("learning_rate", "batch_size")  # each network has its own default
DETAILS = ("step_every", "step_factor")  # beside the schedule they belong to


def fields(current: Dataset, network: Values, start: Values, key: str) -> Values:
    """The settings of both groups, with defaults that train well with the chosen network."""
    arch = networks.architecture(network["architecture"])
    values = dict(network)
    defaults = {"batch_size": arch.batch_size, "learning_rate": arch.learning_rate} | start

    def place(name: str) -> str:
        return f"{key}-{arch.name}-{name}" if name in OF_THE_NETWORK else f"{key}-{name}"

    def draw(names: Sequence[str]) -> dict[str, DeltaGenerator]:
        """Draws the fields in rows of three and returns the column of each, for what belongs under it."""
        places = {}
        for first in range(0, len(names), 3):
            row = names[first : first + 3]
            # Titles of two lines must not move the fields of a row, but for what stands under the learning rate.
            columns = st.columns(3, vertical_alignment="top" if "learning_rate" in row else "bottom")
            for column, name in zip(columns, row, strict=False):
                with column:
                    values[name] = form.field(
                        PARAMS[name],
                        defaults.get(name),
                        key=place(name),
                        titles=lambda option: OPTION_TITLES.get(option, option),
                        names=current.classes,
                    )
                places[name] = column
        return places

    def those(group: str, wanted: Callable[[str], bool]) -> list[str]:
        """The fields of the group that apply, as far as is known from those drawn so far."""
        found = [p.name for p in TRAIN_PARAMS if p.group == group and wanted(p.name)]
        return [name for name in found if params.applies(name, values, len(current.classes))]

    def more(group: str) -> None:
        names = those(group, lambda name: name not in FIRST and name not in DETAILS)
        n = sum(form.changed(PARAMS[name], start.get(name), place(name)) for name in names)
        with st.expander(f"More ({n} changed)" if n else "More", key=f"{key}-more-{group}", icon=":material/more_horiz:"):
            draw(names)

    if arch.name in networks.BASELINES:  # one pass over the images as they are, and no weights
        values |= {"epochs": 1, "patience": 0}
        with st.expander("Images", expanded=True, icon=":material/image:", key=f"{key}-images"):
            draw([n for n in ("image_size", "classes") if params.applies(n, values, len(current.classes))])
        return {name: value for name, value in values.items() if name not in network}
    with st.expander("How it learns", expanded=True, icon=":material/tune:", key=f"{key}-learning"):
        columns = draw([n for n in FIRST if PARAMS[n].group == "learning"])
        found_rate = st.container()
        draw(those("learning", lambda name: name in DETAILS))
        sketch = st.container()
        more("learning")
    with st.expander("Images", expanded=True, icon=":material/image:", key=f"{key}-images"):
        draw([n for n in FIRST if PARAMS[n].group == "images"])
        more("images")
    with sketch:
        _sketch(values, key)
    find_rate(current, values, columns["learning_rate"], found_rate, key)
    return {name: value for name, value in values.items() if name not in network}


def _config(values: Values) -> RunConfig | None:
    """None while a setting is wrong: what is wrong is said beside the button that starts."""
    try:
        return params.run_config(values)
    except Invalid:
        return None


def _sketch(values: Values, key: str) -> None:
    """The learning rate through the run, where it changes."""
    config = _config(values)
    if config is not None and (config.schedule != "constant" or config.warmup):
        figure = figures.schedule(*schedule.course(config), OPTION_TITLES[config.schedule])
        st.plotly_chart(figure, key=f"{key}-sketch", config={"displayModeBar": False})


# Nine variants ----------------------------------------------------------------------------------------

NINE = "nine"  # in the session: which image, and which draw of it


def variants(current: Dataset, values: Values) -> None:
    """What training makes of one image with the settings as they stand."""
    config = _config(values)
    if config is None or not params.augmented(config):
        return
    # How it learns changes no picture: the nine stay while somebody tries batch sizes.
    config = replace(config, **{p.name: p.default for p in TRAIN_PARAMS if p.group == "learning"})
    with st.container(border=True, key="variants"), frame.told():
        number, seed = st.session_state.setdefault(NINE, (randrange(10_000), 0))
        found = plan.plan(current.id, config.classes)
        image, other = plan.example(current.id, found, number), plan.example(current.id, found, number + 1)
        if image is None or other is None:
            return
        left, right = st.columns([2, 3], vertical_alignment="center")
        with left, st.spinner("Drawing nine variants …"):
            picture = _drawn(current.id, config, image.path, other.path, seed)
            st.image(picture, width="stretch", alt=f"nine variants of {image.source}")
        with right:
            st.markdown(f"**Nine variants of one image**  \n{frame.plain(image.source)}, “{frame.plain(image.label or '')}”")
            mixed = f", here with an image of “{frame.plain(other.label or '')}”" if config.mixup or config.cutmix else ""
            st.caption(f"So training may see it with these settings{mixed}. Every epoch draws anew.")
            with st.container(horizontal=True):
                if st.button("Another image", icon=":material/casino:", key="variants-image"):
                    st.session_state[NINE] = (number + 1, seed)
                    st.rerun()
                if st.button("Draw again", icon=":material/refresh:", key="variants-draw"):
                    st.session_state[NINE] = (number, seed + 1)
                    st.rerun()


@st.cache_data(max_entries=100, show_spinner=False)
def _drawn(dataset_id: int, config: RunConfig, file: str, other: str, seed: int) -> bytes:
    return plan.variants(dataset_id, config, file, other, seed)
