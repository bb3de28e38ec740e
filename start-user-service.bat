@echo off
rem Installs what the user service needs, migrates its database and runs it in the foreground.
rem All settings can come from the environment.
setlocal
set "RUN="
if defined PYTHON set RUN="%PYTHON%"
if not defined RUN call py -3 -c "" >nul 2>nul && set "RUN=py -3"
if not defined RUN call python -c "" >nul 2>nul && set "RUN=python"
if not defined RUN echo %~nx0: can't find Python: install Python 3.11 or newer, or set PYTHON to the path of one. 1>&2
if not defined RUN exit /b 1
call %RUN% "%~dp0dev.py" serve user-service %*
exit /b %errorlevel%
