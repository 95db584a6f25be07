"""A page in the browser: upload or record speech, and see its emotions.

Made with gradio. It runs on this machine alone: nothing is sent elsewhere, and
files are deleted.
"""

from __future__ import annotations

import dataclasses
import html
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from qieemo_sb.audio import read_spans
from qieemo_sb.errors import QieemoError
from qieemo_sb.frames import SAMPLE_RATE
from qieemo_sb.serving.classifier import EmotionClassifier
from qieemo_sb.serving.formats import SUFFIXES, TIMELINES, format_timeline
from qieemo_sb.serving.picture import clock, timeline_picture
from qieemo_sb.serving.predictor import raise_errors

TITLE = "Emotion in speech"
ABOUT = f"""# {TITLE}
Upload a recording, or record one: a model of Qieemo predicts the emotion that
the voice expresses, as a whole and over time. Files stay on the machine that
serves this page, and are deleted within the hour.
"""
ADAPT = """A voice that is always loud is not always angry. Add a few clips of
the speaker, in any mood and without labels; ten do most of it.
"""
LIMITS = """**What this is not for.** The model predicts which emotion a voice
*expresses*, as listeners labelled acted and read speech. It does not know what
a person *feels*, and it is often wrong. Base no decision about a person on it.
In the European Union, the AI Act forbids inferring emotions at work and in
education. Record people only with their consent.
"""
ALIKE = "Adapted to no speaker."
KEPT = 3300  # seconds that a file is kept for its reader
CHECKED = 300  # seconds between two looks for older ones; an hour in all


def serve_page(
    classifier: EmotionClassifier, host: str = "127.0.0.1", port: int = 7860
) -> None:
    """Serve the page until the process is interrupted.

    Arguments
    ---------
    classifier : EmotionClassifier
        Of ``load_model``.
    host : str
        Address to listen at; "0.0.0.0" lets other machines ask.
    port : int

    Raises
    ------
    ModelFolderError
        The model knows no emotion.
    QieemoError
        The port is taken.
    """
    import gradio as gr

    # The default theme's fonts would come from the web.
    font, mono = ["system-ui", "sans-serif"], ["ui-monospace", "monospace"]
    with tempfile.TemporaryDirectory(prefix="qieemo-") as folder:
        # No other user may read it. gradio takes it from here alone.
        os.environ["GRADIO_TEMP_DIR"] = folder  # noqa: TID251
        page = _make_page(classifier)
        try:
            _, address, _ = page.launch(
                server_name=host,
                server_port=port,
                share=False,
                ssr_mode=False,
                quiet=True,
                footer_links=[],
                run_history=False,  # in the browser
                prevent_thread_lock=True,
                theme=gr.themes.Default(font=font, font_mono=mono),
            )
        except OSError as error:
            raise QieemoError(
                f"--port {port}: cannot listen there, name another ({error})"
            ) from error
        print(f"The page is at {address} until Ctrl+C.", flush=True)
        try:
            while page.is_running:
                time.sleep(1)
        except KeyboardInterrupt:
            page.close(verbose=False)


def _make_page(classifier):
    """The page of a model, not yet launched."""
    import gradio as gr

    answers = _Answers(classifier)
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, delete_cache=(CHECKED, KEPT)
    ) as page:
        gr.Markdown(ABOUT)
        with gr.Row():
            with gr.Column():
                recording, clips, adapt, forget, status = _questions()
            many = len(classifier.labels)
            scores = gr.Label(label="Whole recording", num_top_classes=many)
        with gr.Column(visible=False) as results:
            shown = _results(answers.columns)
        gr.Markdown(LIMITS)

        voice = gr.State()
        asked: dict[str, Any] = {
            "fn": answers.classify,
            "inputs": [recording, voice],
            "outputs": [results, scores, *shown],
        }
        recording.change(**asked, api_name="classify")
        adapt.click(
            answers.adapt, clips, [voice, status], api_name="adapt"
        ).success(**asked, api_visibility="private")
        forget.click(
            lambda: (None, ALIKE, None),
            outputs=[voice, status, clips],
            api_name="forget",
        ).success(**asked, api_visibility="private")
    return page


def _questions():
    """Recording, clips of the speaker, two buttons, and a line on both."""
    import gradio as gr

    recording = gr.Audio(
        label="Recording",
        type="filepath",
        sources=["upload", "microphone"],
        editable=False,
        buttons=[],
    )
    with gr.Accordion("Adapt to a speaker", open=False):
        gr.Markdown(ADAPT)
        clips = gr.Files(label="Clips of the speaker", height=140)
        with gr.Row():
            adapt = gr.Button("Adapt", variant="primary")
            forget = gr.Button("Forget the speaker")
    return recording, clips, adapt, forget, gr.Markdown(ALIKE)


def _results(columns):
    """Picture, table of segments, and a button for each format."""
    import gradio as gr

    picture = gr.Image(
        format="png",
        show_label=False,
        buttons=["download", "fullscreen"],
        interactive=False,
        alt_text="Waveform of the recording, coloured by emotion",
    )
    table = gr.Dataframe(
        label="Segments", headers=columns, interactive=False, wrap=True
    )
    gr.Markdown("Download the segments as")
    with gr.Row():
        files = [
            gr.DownloadButton(kind, size="sm", min_width=90)
            for kind in TIMELINES
        ]
    return picture, table, *files


class _Answers:
    """Results and messages of the page, by a classifier."""

    def __init__(self, classifier):
        self.classifier = classifier
        self.columns = ["start", "end", "emotion", "score"]
        self.columns += ["transcript"] if classifier.transcribes else []

    def adapt(self, clips):
        """Clips → the speaker, and a line about it."""
        if not clips:
            raise _message("Add one or more clips of the speaker first.")
        try:
            moments = self.classifier.adapt(clips)
        except QieemoError as error:
            raise _message(error, *clips) from error
        many = f"{len(clips)} clips" if len(clips) > 1 else "one clip"
        return moments, f"**Adapted to the speaker of {many}.**"

    def classify(self, path, voice):
        """A recording, of a speaker or None → the outputs of the page, once."""
        import gradio as gr

        if path is None:  # the recording was taken away
            yield gr.update(visible=False), *[None] * (3 + len(TIMELINES))
            return
        try:
            (whole,) = raise_errors(self.classifier.predict([path], voice))
            segments = self.classifier.timeline(path, speaker=voice)
            rows = self._rows(path, segments)
            figure = timeline_picture(path, segments)
        except QieemoError as error:
            raise _message(error, path) from error
        if not segments:
            gr.Warning("No speech was found, and so there are no segments.")
        # The page copies the files when they are yielded.
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder, f"{Path(path).stem}.png")
            figure.savefig(picture)
            files = _write(path, segments, folder)
            yield gr.update(visible=True), whole.scores, picture, rows, *files

    def _rows(self, path, segments):
        """Rows of the table."""
        rows = [
            [clock(x.start, 1), clock(x.end, 1), x.emotion, f"{x.score:.2f}"]
            for x in segments
        ]
        if self.classifier.transcribes:
            times = ((x.start, x.end) for x in segments)
            spans = [tuple(round(SAMPLE_RATE * t) for t in x) for x in times]
            for row, wav in zip(rows, read_spans(path, spans), strict=True):
                speech = torch.from_numpy(wav)
                row += self.classifier.transcribe_batch(speech)[0]
        return rows


def _write(path, segments, folder):
    """Write a timeline in all formats → the files."""
    path, files = Path(path), []  # whose folder is this machine's
    segments = [dataclasses.replace(x, file=path.name) for x in segments]
    for kind in TIMELINES:
        suffix = SUFFIXES.get(kind, kind)
        files.append(Path(folder, f"{path.stem}.{suffix}"))
        files[-1].write_text(format_timeline(segments, kind), "utf-8")
    return [str(file) for file in files]


def _message(error, *paths):
    """An error as the page shows it, with names in place of paths."""
    import gradio as gr

    text = str(error)
    for path in paths:
        text = text.replace(str(path), Path(path).name)
    return gr.Error(html.escape(text), print_exception=False)
