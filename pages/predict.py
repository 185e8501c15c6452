"""Ask a trained network about pictures of your own."""

import html
from functools import partial

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from core.api import signing
from core.data import sources, uploads
from core.errors import AppError
from core.review import batch, policy, predict, review, taken
from core.train import train
from core.types import Band, Dataset, Image, Prediction, Run
from pages.parts.predict import answers, many
from pages.parts.predict.answers import BANDS
from pages.shared import animation, frame
from pages.shared.detail import already

BATCH = 8  # pictures per question, so that results appear as they come


def ask(run: Run, kept: list[uploads.Upload], bar: DeltaGenerator, coming: DeltaGenerator) -> list[Prediction | predict.Failure]:
    """Answers for all, a few at a time; those known already are not asked again. bar, coming: where progress and places are shown."""
    known: dict = st.session_state.setdefault("answers", {})
    missing = [u for u in kept if (run.id, u.id) not in known]
    parts = [missing[i : i + BATCH] for i in range(0, len(missing), BATCH)]
    if parts:
        bar.progress(0.0, f"{frame.plain(run.name)} is asked: 0 of {len(missing):,} pictures")
        coming.html("".join(card_to_come(run, u.name) for u in missing[:20]))
        asked = [(part, predict.ask(run.id, [u.path for u in part])) for part in parts]
        done = 0
        for part, future in asked:
            for upload, answer in zip(part, predict.answers(run.id, [u.name for u in part], future), strict=True):
                known[run.id, upload.id] = answer
            done += len(part)
            bar.progress(done / len(missing), f"{done:,} of {len(missing):,} pictures")
        bar.empty()
    return [known[run.id, u.id] for u in kept]


def card_to_come(run: Run, name: str) -> str:
    """The place of an answer: after a start of the server the first one waits until the network is loaded."""
    grey = "border-radius:4px;background:rgba(128,140,140,.18)"
    rows = f'<div style="height:.85em;margin:.5em 0;{grey}"></div>' * min(5, len(run.classes))
    return (
        f'<div style="display:flex;align-items:center;gap:1em;margin:0 0 1em;padding:1em;border:1px solid rgba(128,140,140,.25);border-radius:8px">'
        f'<div style="width:110px;height:110px;{grey}"></div><div style="flex:1"><div>{html.escape(name)}</div>{rows}</div></div>'
    )


def brought(files: list, photographed: set[str]) -> tuple[dict[str, uploads.Upload], list[predict.Failure]]:
    """The pictures by id, kept for this session so that they are still here on the way back from Explain; photographed: from the camera."""
    refused: list[predict.Failure] = []
    kept: dict[str, uploads.Upload] = {}
    for file in files:
        with_id = st.session_state.setdefault("stored", {})  # a picture is stored once, not in every run of this script
        try:
            one = with_id.get(file.file_id) or with_id.setdefault(file.file_id, uploads.keep(file.name, file.getvalue()))
        except AppError as e:
            refused.append(predict.Failure(file.name, e.message, e.hint))
            continue
        if one.id in kept:
            refused.append(predict.Failure(file.name, f"This is the same picture as {kept[one.id].name}.", "It is shown once."))
        kept.setdefault(one.id, one)
        if file.file_id in photographed:
            st.session_state.setdefault("photographed", set()).add(one.id)
    if files:
        st.session_state["brought"] = kept
    return st.session_state.get("brought", {}), refused


def bars(run: Run, upload: uploads.Upload, answer: Prediction, have: Image | None, band: Band | None) -> None:
    """One picture with its top-k bars, what the policy does with it, and what the dataset knows of it already."""
    url = signing.upload_url(run.dataset_id, upload.path, answer.frame)
    unsure = answer.top(1)[0][1] < predict.UNSURE
    rows = "".join(
        f'<div class="said"><span>{html.escape(label)}</span><span class="bar"><span style="width:{p:.1%}"></span></span><span>{p:.1%}</span></div>'
        for label, p in answer.top(5)
    )
    with st.container(border=True, key=f"result-{upload.id}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.html(
                f'<img src="{html.escape(url)}" alt="{html.escape(upload.name)}" style="width:110px;height:110px;object-fit:contain;border-radius:6px;background:rgba(128,140,140,.12)">',
                width=110,
            )
            with st.container(key=f"said-{upload.id}"):
                mark = f" :orange-badge[:material/help: unsure: below {predict.UNSURE:.0%}]" if unsure else ""
                ruled = f" :gray-badge[:material/gavel: {BANDS[band]}]" if band else ""
                st.markdown(f"{frame.plain(upload.name)}{mark}{ruled}")
                if have is not None:
                    st.caption(already(have))
                if answer.frames:
                    animation.note(answer)
                st.html(rows)
            if st.button(
                "Why", key=f"why-{upload.id}", icon=":material/frame_inspect:", help="Shows which parts of this picture made the answer."
            ):
                asked = predict.keep_frame(upload, answer.frame) if answer.frames else upload
                st.session_state["explain"] = ("upload", asked.id, asked.name)
                st.session_state["explain-source"] = "own"
                st.switch_page("explain.py", query_params={"run": run.id})
        if answer.frames:
            animation.strip(run.dataset_id, answer, upload.path)


def came_by(answer: Prediction) -> str:
    return "camera" if answer.image_id in st.session_state.get("photographed", ()) else "upload"


def send(current: Dataset, run: Run, answers: list[Prediction]) -> None:
    sent = sum(review.submit(current.id, run.id, a, frame.user(), came_by(a)) for a in answers)
    st.session_state.setdefault("sent", set()).update((current.id, run.id, a.image_id) for a in answers)
    waiting = len(answers) - sent
    there = f"{waiting:,} of them wait there already." if sent else "They wait in Review already."
    st.toast(f"{sent:,} sent to review. {there if waiting else ''}" if sent else there, icon=":material/rate_review:")


def camera() -> list:
    """A picture from the camera, if somebody takes one."""
    with st.popover("Camera", icon=":material/photo_camera:"):
        taken = st.camera_input("Take a picture", key="camera", label_visibility="collapsed", width=380)
        st.caption(
            "Without https a browser gives a camera to pages of its own computer alone. On a phone *Pictures* offers to take one, too."
        )
    return [taken] if taken is not None else []


def unzip(files: list, current: Dataset, run: Run) -> list:
    """The pictures; a zip among the files is asked about in the background."""
    pictures = []
    for file in files:
        if not file.name.lower().endswith(".zip"):
            pictures.append(file)
        elif file.file_id not in (seen := st.session_state.setdefault("zips", set())):
            seen.add(file.file_id)
            with frame.told():
                source = sources.uploaded([uploads.put(file.name, file.getvalue())])
                batch.start(current.id, [run.id], source, frame.user(), "zip")
                st.toast(f"{frame.plain(file.name)} is asked about in the background: see *Many pictures*.", icon=":material/folder_zip:")
    return pictures


def ask_now(current: Dataset, run: Run) -> None:
    files = st.file_uploader(
        "Pictures", accept_multiple_files=True, key="pictures",  # of any type: a refusal of the browser's is seen only under the pointer
        help="They stay on this host and join no dataset until somebody accepts them in Review.",
    )  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        photographed = camera()
        blur = st.toggle("Blur pictures", key="blur", bind="query-params", help="Shows them only vaguely.")
    kept, refused = brought(unzip([*(files or []), *photographed], current, run), {one.file_id for one in photographed})
    if not kept:
        st.caption("Drop one or many pictures here. The result shows how sure the network is of each class.")
    elif not files and not photographed:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("The pictures you brought last.", width="content")
            if st.button("Clear", icon=":material/close:", type="tertiary"):
                st.session_state.pop("brought")
                st.rerun()
    for failure in refused:
        tell(failure)
    acts = st.container(horizontal=True, vertical_alignment="center")
    bar, coming = st.empty(), st.empty()
    answers = ask(run, list(kept.values()), bar, coming) if kept else []
    with frame.told():
        keep(current, run, answers)
    good = [(u, a) for u, a in zip(kept.values(), answers, strict=True) if isinstance(a, Prediction)]
    for failure in (a for a in answers if isinstance(a, predict.Failure)):
        tell(failure)
    if not good:
        coming.empty()
        return
    found = [a for _, a in good]
    unsent = [a for a in found if (current.id, run.id, a.image_id) not in st.session_state.get("sent", ())]
    unsure = [a for a in unsent if a.top(1)[0][1] < predict.UNSURE]
    with acts:
        # Those that have been pressed stay where they are: a second click must not meet another button in their place.
        st.button(
            f"Send all {len(unsent) or len(good):,} to review", type="primary" if unsent else "secondary", icon=":material/rate_review:",
            key="send-all", disabled=not unsent, on_click=send, args=(current, run, unsent),
        )  # fmt: skip
        st.button(
            f"Send the {len(unsure):,} unsure to review", icon=":material/help:", key="send-unsure", disabled=not unsure, on_click=send, args=(current, run, unsure),
            help=f"Unsure: the likeliest class has less than {predict.UNSURE:.0%}.",
        )  # fmt: skip
        if frame.may("export", current.id, say=False):
            st.download_button(
                "CSV", frame.deferred(partial(taken.predictions, run.id, found, frame.user())), f"{run.name}.csv", "text/csv",
                icon=":material/download:", on_click="ignore",
            )  # fmt: skip
        if len(unsent) < len(good):
            st.caption(f"{len(good) - len(unsent):,} sent to review.", width="content")
            if st.button("To Review", icon=":material/arrow_forward:", type="secondary" if unsent else "primary", key="to-review"):
                st.switch_page("review.py")
    page = st.pagination(-(-len(good) // 20), key="predict-page") if len(good) > 20 else 1
    shown = good[(page - 1) * 20 : page * 20]
    have = review.there(current.id, [upload.id for upload, _ in shown])
    coming.empty()
    band = policy.bands_of(current.id, run.id)
    with st.container(key="blurred-results" if blur else "clear-results"):
        for upload, answer in shown:
            bars(run, upload, answer, have.get(upload.id), band(answer))
    with st.expander("As a table", icon=":material/table:"):
        share = st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1)
        st.dataframe(
            taken.lines(found), hide_index=True, column_config={c: share for c in ("probability", *(f"p({c})" for c in run.classes))}
        )
    frame.may("export", current.id)


def tell(failure: predict.Failure) -> None:
    st.warning(
        f"**{frame.plain(failure.file)}**: {frame.plain(failure.message)} {frame.plain(failure.hint)}", icon=":material/broken_image:"
    )


def keep(current: Dataset, run: Run, answers: list[Prediction | predict.Failure]) -> None:
    """Keeps what was answered, once in this session, so that a reload loses nothing."""
    told: set = st.session_state.setdefault("kept-answers", set())
    fresh = [a for a in answers if isinstance(a, Prediction) and (current.id, run.id, a.image_id) not in told]
    if fresh:
        for how in sorted({came_by(a) for a in fresh}):
            review.keep(current.id, run.id, [a for a in fresh if came_by(a) == how], frame.user(), how)
        told.update((current.id, run.id, a.image_id) for a in fresh)


VIEWS = {"ask": ":material/bolt: Ask now", "many": ":material/folder_zip: Many pictures", "all": ":material/list: All answers"}

with frame.page("Predict", "Ask a trained network about pictures it has never seen.") as current:
    current = frame.need_dataset(current)
    if error := st.session_state.pop("predict-error", None):
        frame.show(error)
    if words := st.session_state.pop("predict-told", ""):
        st.toast(words, icon=":material/auto_delete:")
    if run := frame.run_picker(current):
        runs = [one.run for one in train.usable(current.id)]
        view = frame.url_view("view", VIEWS, key="predict-view")
        if view != "all":
            frame.need("ask", current)
        if view == "many":
            many.show(current, run, [one for one in runs if one.id != run.id])
        elif view == "all":
            with frame.told():
                answers.show(current, runs)
        else:
            predict.expect(run.id)
            ask_now(current, run)
