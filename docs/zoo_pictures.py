"""Lets the pages of the documents show the pictures of the published weights.

The pictures lie in the repository's folder zoo/, beside the weights that they are made from, and
MkDocs copies only what lies in docs/. A page links to them by their path in the repository, such as
`../../zoo/dmnn20/macs_histogram.png`, so that the link is also right where the Markdown file itself
is shown. MkDocs calls the two functions below, because mkdocs.yml names this file under `hooks`.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_LINK = re.compile(r'(?<=\]\()(?:\.\./)+zoo/[^)\s]+\.png|(?<=src=")(?:\.\./)+zoo/[^"]+\.png')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pictures to the files that the site is made from."""
    root = Path(config.config_file_path).parent
    for picture in sorted(root.glob("zoo/**/*.png")):
        name = picture.relative_to(root).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turns links to the repository's zoo/ into links to the site's zoo/."""
    folder = posixpath.dirname(page.file.src_uri)

    def relink(found: re.Match[str]) -> str:
        in_repository = posixpath.normpath(posixpath.join("docs", folder, found[0]))
        # A link that leads elsewhere stays as it is, so that MkDocs reports it.
        in_site = in_repository.startswith("zoo/")
        return posixpath.relpath(in_repository, folder or ".") if in_site else found[0]

    return _LINK.sub(relink, markdown)
