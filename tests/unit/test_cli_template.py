"""Go templates as --format takes them."""

from __future__ import annotations

from typing import Any

import pytest

from seom.cli.template import Template, TemplateError

DATA: dict[str, Any] = {
    "Id": "abc",
    "Name": "/web",
    "Size": 3,
    "Ratio": 2.5,
    "State": {"Running": True, "Pid": 42, "Error": ""},
    "Mounts": [{"Source": "/a", "RW": True}, {"Source": "/b", "RW": False}],
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"com.x": "y", "k": "v"}, "Cmd": None},
    "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "::", "HostPort": "8080"}], "443/tcp": None}},
    "Empty": [],
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "/web"),
        ("{{ .State.Running }} {{.Size}} {{.Ratio}}", "true 3 2.5"),
        ("{{.Config.Env}} {{.Config.Labels}} {{.Empty}}", "[A=1 B=2] map[com.x:y k:v] []"),
        ("{{json .State}}", '{"Running":true,"Pid":42,"Error":""}'),
        ("{{.Config.Env | json}}", '["A=1","B=2"]'),
        ("{{range .Mounts}}{{.Source}};{{end}}", "/a;/b;"),
        ("{{range $i, $m := .Mounts}}{{$i}}{{$m.Source}}{{$.Id}} {{end}}", "0/aabc 1/babc "),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}},{{end}}", "com.x=y,k=v,"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{if .RW}}{{continue}}{{end}}{{.Source}}{{end}}", "/b"),
        ("{{range .Mounts}}{{.Source}}{{break}}{{end}}", "/a"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Error}}bad{{else if eq .Size 3}}three{{else}}no{{end}}", "three"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .Empty}}x{{else}}-{{end}}", "42-"),
        ('{{index .Config.Labels "com.x"}}{{index .Config.Labels "no"}}', "y"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range $p, $c := .NetworkSettings.Ports}}{{if $c}}{{$p}}{{end}}{{end}}", "80/tcp"),
        ("{{len .Mounts}}{{len .Name}}", "24"),
        (
            '{{printf "%s-%05d|%-5s|%5.1f|%v|%q" .Id .Size "x" .Ratio true .Name}}',
            'abc-00003|x    |  2.5|true|"/web"',
        ),
        ('{{join .Config.Env ","}} {{split "a:b" ":"}}', "A=1,B=2 [a b]"),
        ('{{upper "a"}}{{lower "B"}}{{title "hello"}}', "AbHello"),
        ("{{print 1 2}}{{print .Id .Name}}{{println .Id 1}}", "1 2abc/webabc 1\n"),
        ("{{and .Size .Name}} {{or .Empty .Id}} {{not .Empty}}", "/web abc true"),
        ("{{if and .State.Running (gt .Size 2) (lt .Size 4)}}y{{end}}", "y"),
        ("{{eq .Size 1 2 3}} {{ne .Id .Name}} {{le 1 1}} {{ge 0 1}}", "true true true false"),
        ("{{$x := .Size}}{{$x = 7}}{{$x}}", "7"),
        ("{{with $x := .Size}}{{$x}}{{end}}", "3"),
        ("a  {{- .Id -}}  b", "aabcb"),
        ("{{/* nothing }} */}}x{{- /* more */ -}} y", "xy"),
        ("{{.Config.Labels.none}}|{{.Config.Cmd}}", "<no value>|<no value>"),
        ("{{if .State.Health}}x{{else}}no health{{end}}", "no health"),
        ('{{`raw {{ }}`}}{{"\\t"}}', "raw {{ }}\t"),
        ("{{slice .Name 1}} {{slice .Name 1 3}}", "web we"),
        ("{{range 3}}{{.}}{{end}}", "012"),
    ],
)
def test_rendering(template: str, expected: str) -> None:
    assert Template(template).render(DATA) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        ("{{.State.Foo}}", 'template: :1:8: executing "" at <.State.Foo>: map has no entry for key "Foo"'),
        ("a\n{{.Foo}}", 'template: :2:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
        ("{{index .Mounts 5}}", "error calling index: index out of range: 5"),
        ('{{eq .Size "3"}}', "incompatible types for comparison"),
    ],
)
def test_a_template_that_does_not_fit_names_the_place(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(template).render(DATA)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{", "unclosed action"),
        ("{{.Id", "unclosed action"),
        ("{{foo}}", 'function "foo" not defined'),
        ("{{if .Id}}", "unexpected EOF"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{}}", "missing value for command"),
        ('{{"abc}}', "unclosed action"),
        ("{{(.Id}}", "unclosed left paren"),
    ],
)
def test_a_malformed_template_is_refused_before_any_data(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        Template(template)
    assert message in str(caught.value)
