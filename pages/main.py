"""Runs before every page: configuration, navigation, the chosen dataset, who I am."""

import streamlit as st

from core import roles
from pages.shared import frame

LOGO = str(frame.ASSETS / "logo.svg")

st.set_page_config("Loupe", page_icon=LOGO, layout="wide")
st.logo(LOGO, size="large")
roles.found_by(frame.who)  # also for callbacks and fragments, which run without this script
admin = frame.need_person().may("admin")

page = st.navigation(
    {
        "": [st.Page("home.py", title="Home", icon=":material/home:", default=True)],
        "Data": [
            st.Page("dataset.py", title="Dataset", icon=":material/photo_library:", help="Bring images in, browse them, name the classes"),
            st.Page("label.py", title="Label", icon=":material/sell:", help="Say what the pictures show, with the model's help"),
        ],
        "Model": [
            st.Page("train.py", title="Train", icon=":material/model_training:", help="Choose a network and watch it learn"),
            st.Page("evaluate.py", title="Evaluate", icon=":material/grid_on:", help="How often it is right, and where it is wrong"),
            st.Page("explain.py", title="Explain", icon=":material/frame_inspect:", help="Which parts of a picture made the answer"),
        ],
        "Use": [
            st.Page("predict.py", title="Predict", icon=":material/upload_file:", help="Ask a trained network about pictures of your own"),
            st.Page("review.py", title="Review", icon=":material/rate_review:", help="Decide on predictions one by one"),
        ],
        "Admin": [
            *([st.Page("audit.py", title="Audit", icon=":material/fact_check:", help="Who did what, when and on what")] if admin else []),
            st.Page(
                "people.py",
                title="People",
                icon=":material/group:",
                help="Who may sign in, and what each may do",
                visibility="visible" if admin else "hidden",  # its address says to others who may
            ),
        ],
    },
    expanded=True,
)
st.set_page_config(f"{page.title} · Loupe")  # one tab is told from another
with st.sidebar, frame.guarded("sidebar"):
    frame.dataset_picker()
    frame.who_am_i()
page.run()
