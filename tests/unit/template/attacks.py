"""Malicious templates. Run as a program, it renders all of them.

The program prints a line of JSON for each: the outcome, its message, the seconds, and the growth of its memory.
"""

# ruff: noqa: E501 - each template on a line

import json
import resource
import sys
import time

ESCAPES = {
    "class": "{{ ''.__class__ }}",
    "class by item": "{{ ''['__class__'] }}",
    "class by computed item": "{{ ''['__cl' ~ 'ass__'] }}",
    "mro": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "mro of a class": "{{ dict.mro() }}",
    "globals of a function": "{{ include.__globals__ }}",
    "body of a function": "{{ include.body }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m._func.__globals__ }}",
    "init of a macro": "{% macro m() %}{% endmacro %}{{ m.__init__ }}",
    "environment of a macro": "{% macro m() %}{% endmacro %}{{ m._environment }}",
    "self": "{{ self.__init__.__globals__ }}",
    "context of self": "{{ self._TemplateReference__context }}",
    "self printed": "{{ self }}",
    "cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "joiner": "{{ joiner.__init__.__globals__ }}",
    "lipsum": "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "lipsum of words": "{{ lipsum(1000000) }}",
    "namespace": "{{ namespace.__init__.__globals__ }}",
    "attributes of a namespace": "{{ namespace(a=1)._Namespace__attrs }}",
    "class of a namespace": "{{ namespace(a=1).__class__ }}",
    "undefined": "{{ nothing.__class__ }}",
    "class of undefined": "{{ (nothing | default(missing)).__init__ }}",
    "loop": "{% for x in [1] %}{{ loop._iterator.gi_frame }}{% endfor %}",
    "class of a loop": "{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
    "recursion of a loop": "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    "generator": "{{ ([1] | map('abs')).gi_frame }}",
    "frame of a generator": "{{ ([1] | select).gi_frame.f_globals }}",
    "format": "{{ '{0.__class__}'.format(1) }}",
    "format of a map": "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "format unbound": "{{ ''.format.__self__ }}",
    "attr": "{{ '' | attr('__class__') }}",
    "map of attr": "{{ [''] | map('attr', '__class__') | list }}",
    "map of an attribute": "{{ [''] | map(attribute='__class__') | list }}",
    "map of a dotted attribute": "{{ [{'a': ''}] | map(attribute='a.__class__.__mro__') | list }}",
    "selectattr": "{{ [''] | selectattr('__class__') | list }}",
    "groupby": "{{ [''] | groupby('__class__') }}",
    "sort": "{{ ['', ''] | sort(attribute='__class__') }}",
    "unique": "{{ ['', ''] | unique(attribute='__class__') }}",
    "sum": "{{ [''] | sum(attribute='__class__') }}",
    "join": "{{ [''] | join(',', attribute='__class__') }}",
    "min": "{{ ['', ''] | min(attribute='__class__') }}",
    "query": "{{ jmespath('__class__', '') }}{{ jmespath('a', include).x }}",
    "bytes": "{{ ''.encode() }}",
    "mutation": "{% set a = [1] %}{{ a.append(2) }}",
    "mutation of a mapping": "{% set a = {} %}{{ a.update(b=1) }}",
    "mutation by setdefault": "{% set a = {} %}{{ a.setdefault('b', 1) }}",
    "import": "{% import 'os' as os %}",
    "from": "{% from 'os' import path %}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "block": "{% block b %}{{ self.b() }}{% endblock %}",
    "autoescape": "{% autoescape true %}{% endautoescape %}",
    "do": "{% do 1 %}",
    "debug": "{% debug %}",
    "address in memory": "{{ '%s' % ''.upper }}",
    "address in memory by a filter": "{{ [''.upper] | upper }}",
    "address in memory by replace": "{{ [''.upper] | replace('x', 'y') }}",
    "address in memory by JSON": "{{ [''.upper] | to_json }}",
    "address in memory by ~": "{{ '' ~ [''.upper] }}",
    "address in memory in a message": "{{ is_ip(''.upper) }}",
    "address in memory in another": "{{ hash('a', ''.upper) }}",
    "keyword of the sandbox": "{{ dict(**{'_loop_vars': 1}).x }}{{ var(_Sandbox__obj=1) }}",
    "caller": "{% macro m() %}{{ caller.__globals__ }}{% endmacro %}{% call m() %}{% endcall %}",
    "shadowed function": "{% set include = ''.join %}{{ include.__self__ }}",
    "yaml": "{{ from_yaml('!!python/object/apply:os.system [id]') }}",
    "environment": "{{ env('PATH') }}",
    "jinja's own call": "{{ loop.x }}{{ environment.call }}",
    "internal function": "{{ counted([1], 1) }}",
    "internal filter": "{{ 1 | counted }}",
}
BOMBS = {
    "repetition": "{{ 'x' * 10**9 }}",
    "repetition the other way": "{{ 10**9 * 'x' }}",
    "repetition of a list": "{{ [1] * 10**9 }}",
    "repetition twice": "{% set a = 'x' * 1000000 %}{{ a * 1000000 }}",
    "power": "{{ 10 ** (10 ** 8) }}",
    "power of a small number": "{{ 1.5 ** (10 ** 9) }}",
    "product": "{% set ns = namespace(n=2) %}{% for i in range(10000) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    "huge number": "{{ " + "9" * 100_000 + " }}",
    "number from hexadecimal": "{{ ('f' * 1000000) | int(base=16) }}",
    "number to text": "{{ ('f' * 20000) | int(base=16) | string }}",
    "doubling by ~": "{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}",
    "doubling by +": "{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set ns.a = ns.a + ns.a %}{% endfor %}",
    "doubling by lists": "{% set ns = namespace(a=[1]) %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}{{ ns.a }}",
    "doubling by tuples": "{% set ns = namespace(a=1) %}{% for i in range(99) %}{% set ns.a = (ns.a, ns.a) %}{% endfor %}{{ ns.a == ns.a }}",
    "doubling by mappings": "{% set ns = namespace(a=1) %}{% for i in range(99) %}{% set ns.a = {'a': ns.a, 'b': ns.a} %}{% endfor %}",
    "doubling by dict": "{% set ns = namespace(a=1) %}{% for i in range(99) %}{% set ns.a = dict(a=ns.a, b=ns.a) %}{% endfor %}",
    "doubling by namespaces": "{% set ns = namespace(a=1) %}{% for i in range(99) %}{% set ns.a = [namespace(a=ns.a).a, ns.a] %}{% endfor %}",
    "doubling by captured text": "{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set a %}{{ ns.a }}{{ ns.a }}{% endset %}{% set ns.a = a %}{% endfor %}",
    "doubling by macros": "{% macro m(x) %}{{ x }}{{ x }}{% endmacro %}{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set ns.a = m(ns.a) %}{% endfor %}",
    "doubling by replace": "{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set ns.a = ns.a | replace('x', 'xx') %}{% endfor %}",
    "doubling by a method": "{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set ns.a = ns.a.replace('x', 'xx') %}{% endfor %}",
    "doubling by join": "{% set ns = namespace(a='xx') %}{% for i in range(99) %}{% set ns.a = [ns.a, ns.a] | join %}{% endfor %}",
    "doubling by JSON": "{% set ns = namespace(a='\\\\') %}{% for i in range(99) %}{% set ns.a = ns.a | to_json %}{% endfor %}",
    "doubling by a query": "{{ jmespath(('[@,@] | ' * 60) ~ 'to_string(@)', 1) }}",
    "doubling by flattening": "{{ jmespath(('[@[], @[]][] | ' * 60) ~ 'length(@)', [1]) }}",
    "doubling by include": "{{ set('a', 'xx') }}{% for i in range(99) %}{{ set('a', include('str://{{ var(\"a\") }}{{ var(\"a\") }}')) }}{% endfor %}",
    "many names in a format": "{{ ('%(a)s' * 20000) % {'a': 'x' * 20000} }}",
    "doubling by variables": "{{ set('a', [1]) }}{% for i in range(99) %}{{ set('a', [var('a'), var('a')]) }}{% endfor %}",
    "replace with nothing": "{{ ('x' * 100000) | replace('', 'y' * 100000) }}",
    "replace by a method": "{{ ('x' * 100000).replace('', 'y' * 100000) }}",
    "join of one text": "{{ range(100000) | map('default', 1) | join('y' * 100000) }}",
    "join by a method": "{{ ('y' * 100000).join('x' * 100000) }}",
    "join of a generator": "{{ 'y'.join(range(9)) }}",
    "map that repeats": "{{ range(100000) | map('replace', '0', 'y' * 100000) | list | length }}",
    "width by %": "{{ '%1000000000d' % 1 }}",
    "width by star": "{{ '%*d' % (1000000000, 1) }}",
    "precision": "{{ '%.1000000000f' % 1.0 }}",
    "width by name": "{{ '%(a)1000000000s' % {'a': 1} }}",
    "width by the filter": "{{ '%1000000000s' | format(1) }}",
    "many widths": "{{ ('%999d' * 10000) % (1, 2) }}",
    "center": "{{ 'x' | center(1000000000) }}",
    "center by a method": "{{ 'x'.center(1000000000) }}",
    "zfill": "{{ 'x'.zfill(1000000000) }}",
    "ljust": "{{ 'x'.ljust(1000000000) }}",
    "indent": "{{ ('\\n' * 10000) | indent(1000000) }}",
    "indent by text": "{{ ('\\n' * 10000) | indent('x' * 100000) }}",
    "indent of JSON": "{{ [1] | to_json(1000000000) }}",
    "batch": "{{ [1] | batch(1000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(1000000000) | list }}",
    "round": "{{ 1 | round(1000000000, 'ceil') }}",
    "wordwrap": "{{ ('x' * 1000000) | wordwrap(1) }}",
    "range": "{{ range(1000000000) | list }}",
    "range of large numbers": "{{ range(0, 10**300, 10**299) | list }}",
    "cidr": "{{ cidr_hosts('::/0') }}",
    "loops in loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}",
    "loops that test": "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
    "loops in macros": "{% macro m() %}{% for a in range(100000) %}{% endfor %}{% endmacro %}{% for a in range(100000) %}{{ m() }}{% endfor %}",
    "loops of filters": "{% for a in range(100000) %}{% set x = range(100000) | list | sort | length %}{% endfor %}",
    "text in a loop": "{% for a in range(100000) %}" + "x" * 10_000 + "{% endfor %}",
    "text in a loop, captured": "{% set a %}{% for a in range(100000) %}" + "x" * 10_000 + "{% endfor %}{% endset %}",
    "text in a loop, else": "{% set a %}{% for a in range(100000) %}{% for b in [] %}{% else %}" + "x" * 10_000 + "{% endfor %}{% endfor %}{% endset %}",
    "text in a macro": "{% macro m() %}" + "x" * 10_000 + "{% endmacro %}{% for a in range(100000) %}{% set x = m() %}{% endfor %}",
    "text in a call": "{% macro m() %}{% for a in range(100000) %}{{ caller() }}{% endfor %}{% endmacro %}{% call m() %}" + "x" * 10_000 + "{% endcall %}",
    "text in a filter": "{% filter upper %}{% for a in range(100000) %}" + "x" * 10_000 + "{% endfor %}{% endfilter %}",
    "many large values": "".join(f"{{% set a{n} = 'x' * 1999999 %}}" for n in range(2000)),
    "many large slices": "{% set a = 'x' * 1999999 %}" + "".join(f"{{% set a{n} = a[1:] %}}" for n in range(2000)),
    "macros in a circle": "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
    "macro that doubles": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(45) }}",
    "macro handed to itself": "{% macro m(f) %}{{ f(f) }}{% endmacro %}{{ m(m) }}",
    "caller in a circle": "{% macro m() %}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{{ m() }}",
    "include in a circle": "{{ set('t', '{{ include(\"str://\" ~ var(\"t\")) }}') }}{{ include('str://' ~ var('t')) }}",
    "source in a circle": "{{ set('t', '{{ source(\"str://\" ~ var(\"t\")) }}') }}{{ source('str://' ~ var('t')) }}",
    "includes that double": "{{ set('t', '{{ include(\"str://\" ~ var(\"t\")) }}' * 2) }}{{ include('str://' ~ var('t')) }}",
    "includes of new texts": "{% for n in range(100000) %}{{ include('str://{{ ' ~ n ~ ' }}' ~ '{{ 1 }}' * 1000) }}{% endfor %}",
    "namespace of itself": "{% set a = namespace() %}{% set a.a = [a] %}{{ a.a }}",
    "deep list": "{% set ns = namespace(a=[]) %}{% for i in range(100000) %}{% set ns.a = [ns.a] %}{% endfor %}{{ ns.a == ns.a }}{{ ns.a }}",
    "deep JSON": "{{ from_json('[' * 100000) }}",
    "deep YAML": "{{ from_yaml('[' * 100000) }}",
    "deep YAML blocks": "{{ from_yaml('- ' * 100000) }}",
    "YAML that unfolds": "{{ from_yaml('a: &a [x]\\nb: &b [*a, *a]\\nc: [*b, *b]') }}",
    "large YAML": "{{ from_yaml('- 1\\n' * 400000) }}",
    "large JSON": "{{ from_json('[' ~ '1,' * 400000 ~ '1]') }}",
    "colliding numbers": "{{ from_json('[' ~ range(1, 40000) | map('string') | join('305843009213693951,') ~ '1]') | unique | length }}",
    "endless query": "{{ jmespath('a' * 20000, 1) }}",
    "nested parentheses": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "nested lists": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "nested ifs": "{% if true %}" * 500 + "{% endif %}" * 500,
    "nested loops": "{% for a in [1] %}" * 50 + "{% endfor %}" * 50,
    "long sum": "{{ 1" + " + 1" * 20_000 + " }}",
    "long chain": "{{ a" + ".a" * 20_000 + " }}",
    "chain of filters": "{{ 1" + "|abs" * 20_000 + " }}",
    "chain of not": "{{ " + "not " * 20_000 + "1 }}",
    "long source": "{{ 1 }}" * 100_000,
    "longer source": "x" * 2_000_000 + "{{ 1 }}",
    "many names": "".join(f"{{{{ a{n} }}}}" for n in range(30_000)),
    "truncation": "{{ ('x' * 1000000) | truncate(5, true, 'y' * 1000000) ~ 'z' * 1000001 }}",
    "division": "{{ 1 // 0 }}",
    "parts of a format": "{{ ('%(' * 999999) % {'a': 1} }}",
    "search backwards": "{{ ('a' * 1999999).rfind('ab' ~ 'a' * 999999) }}",
    "split backwards": "{{ ('a' * 1999999).rsplit('ab' ~ 'a' * 999999) }}",
    "partition backwards": "{{ ('a' * 1999999).rpartition('ab' ~ 'a' * 999999) }}",
    "strip of many": "{{ ('a' * 999999).strip('b' * 999999 ~ 'a') }}",
    "trim of many": "{{ ('a' * 999999) | trim('b' * 999999 ~ 'a') }}",
    "directives of YAML": "{{ from_yaml('%TAG !a! b\\n' * 100000 ~ '--- 1') }}",
    "long name": "{{ var('x' * 1999999) }}",
    "long names": "{% for n in range(500) %}{{ set('ab' * 900 ~ n, 1) }}{% endfor %}{{ var('ab' * 900) }}",
    "comparison": "{{ 1 < 'a' }}",
}  # fmt: skip
ATTACKS = ESCAPES | BOMBS


def main() -> None:
    from infrakit.spi.errors import InfraKitError
    from infrakit.template.engine import Engine
    from infrakit.template.limits import Limits
    from infrakit.template.loaders import Loader
    from infrakit.template.scope import Scope

    engine = Engine(Loader(), Limits(seconds_max=float(sys.argv[1])))
    engine.render(engine.inline("{{ from_yaml('a') }}{{ jmespath('a', {}) | default('', true) }}", name="w"), Scope())
    for name in sys.argv[2:] or ATTACKS:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        try:
            result = engine.render(engine.inline(ATTACKS[name], name="t"), Scope())
            message, kind = repr(result), "rendered"
        except InfraKitError as error:
            message, kind = str(error), type(error).__name__
        except BaseException as error:
            message, kind = repr(error), "escaped"
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps([name, kind, message[:300], round(time.monotonic() - began, 2), grown // 1024]), flush=True)


if __name__ == "__main__":
    main()
