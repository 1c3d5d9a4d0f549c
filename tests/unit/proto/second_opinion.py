#!/usr/bin/env python3
"""Compares the link scanner, the resolution of links and dates with Python's own library.

    second_opinion.py PROGRAM [SEED]

html.parser for pages, urllib.parse for links, email.utils for dates, on random inputs made of the pieces that
matter. PROGRAM is second_opinion.c.
"""

import email.utils
import html.parser
import random
import subprocess
import sys
import urllib.parse

URLS = {"href", "src", "poster", "xlink:href"}


class Links(html.parser.HTMLParser):
    """What html.parser sees: (line, url) of each link."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found = []

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            value = (value or "").strip(" \t\r\n\f")
            if (name in URLS or (tag, name) == ("object", "data")) and value:
                self.found.append(value)

    handle_startendtag = handle_starttag


def random_value(r):
    return "".join(r.choice(["a", "b.html", "/", "../", "?x=1", "&amp;", "&lt;", "&#65;", "#f", " ", "%20", "=", "ü"])
                   for _ in range(r.randrange(1, 6)))


def random_attribute(r):
    name = r.choice(["href", "src", "HREF", "poster", "class", "data", "xlink:href", "id", "alt"])
    space = r.choice(["", " ", "\n"])
    form = r.randrange(5)
    value = random_value(r)
    if form == 0:
        return name
    if form == 1:
        return f'{name}={r.choice(["x", "y/z.html", "/a?b", "a=b"])}'
    quote = r.choice("\"'")
    return f"{name}{space}={space}{quote}{value}{quote}"


def random_page(r):
    parts = []
    for _ in range(r.randrange(1, 12)):
        kind = r.randrange(8)
        attributes = "".join(r.choice([" ", "\n", "  "]) + random_attribute(r) for _ in range(r.randrange(4)))
        if kind == 0:
            parts.append(f"<!-- <a href={random_value(r)}> -->")
        elif kind == 1:
            parts.append(f"<script{attributes}>'<a href=no>' < '<b src=\"no\">'</script>")
        elif kind == 2:
            parts.append(r.choice(["text", "a < b", "x > y", "\n", "<!DOCTYPE html>", "</p>", "&amp;"]))
        else:
            tag = r.choice(["a", "IMG", "link", "object", "video", "svg", "div"])
            parts.append(f"<{tag}{attributes}{r.choice(['>', ' >', ' />'])}")
    return "".join(parts)


def expected_link(page, url):
    """Where urllib says that a link leads: a path, "other", or "broken"."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme or url.startswith("//") or not parts.path:
        return "other"
    joined = urllib.parse.urlsplit(urllib.parse.urljoin("http://h" + urllib.parse.quote(page), parts.path)).path
    path = urllib.parse.unquote(joined)
    while "//" in path:
        path = path.replace("//", "/")
    if path.startswith(("/v1/", "/_/")):
        return "other"
    if any(s.startswith(".") for s in path.split("/")):
        return "broken"
    return path.encode().hex()


def random_link(r):
    pieces = ["a", "b c", "..", ".", "", "x.html", "%20", "ü", "v1", "_", "d:e", "a..b"]
    url = r.choice(["", "/", "./", "../", "//h/", "http://h/"])
    url += "/".join(r.choice(pieces) for _ in range(r.randrange(6)))
    return url.replace("///", "/") + r.choice(["", "", "?q", "#f", "?a/../b#c"])


def main():
    r = random.Random(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    questions, wants = [], []
    for _ in range(4000):
        page = random_page(r)
        parser = Links()
        parser.feed(page)
        parser.close()
        questions.append("html " + page.encode().hex())
        wants.append([v.encode().hex() for v in parser.found])
        at, url = r.choice(["/", "/a.html", "/x/y.html", "/x/y/", "/x y/z"]), random_link(r)
        if "//" in url[2:]:  # several slashes: RFC 3986 keeps empty segments, a site has none
            url = url[:2] + url[2:].replace("//", "/")
        questions.append(f"link {at.encode().hex()} {url.encode().hex()}")
        wants.append(expected_link(at, url))
        second = r.randrange(253402300800)
        questions.append("date " + email.utils.formatdate(second, usegmt=True).encode().hex())
        wants.append(str(second))
    ours = subprocess.run([sys.argv[1]], input="\n".join(questions) + "\n", capture_output=True, text=True,
                          check=True).stdout.splitlines()
    failed, at = 0, 0
    for question, want in zip(questions, wants):
        if isinstance(want, list):
            end = ours.index(".", at)
            got, at = [line.split(" ", 1)[1] for line in ours[at:end]], end + 1
        else:
            got, at = ours[at], at + 1
        if got != want:
            failed += 1
            readable = [bytes.fromhex(word).decode() for word in question.split()[1:]]
            print(f"{question.split()[0]} {readable}: {got}, not {want}")
    print(f"{len(questions)} compared, {failed} differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
