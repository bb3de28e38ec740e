@echo off
rem Installs what the product service needs, migrates its database and runs it in the foreground.
rem All settings can come from the environment.
rem PYTHON may name a Python to use: its path, or a command such as py -3.12.
setlocal
set "RUN="
if not defined PYTHON goto search
set "RUN=%PYTHON:"=%"
if exist "%RUN%.exe" set RUN="%RUN%.exe"
if exist "%RUN%" set RUN="%RUN%"
call %RUN% -c "" >nul 2>nul && goto run
echo %~nx0: can't run %RUN%: set PYTHON to the path or command of Python 3.11 or newer. 1>&2
exit /b 1
:search
call py -3 -c "" >nul 2>nul && set "RUN=py -3"
if not defined RUN call python -c "" >nul 2>nul && set "RUN=python"
if defined RUN goto run
echo %~nx0: can't find Python: install Python 3.11 or newer, or set PYTHON to the path of one. 1>&2
exit /b 1
:run
call %RUN% "%~dp0dev.py" serve product-service %*
exit /b %errorlevel%
